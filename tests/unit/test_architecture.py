"""Who may import whom: the rooms of the package, kept by walking its import statements."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import titan_nb

PACKAGE = Path(titan_nb.__file__).parent

EVERYWHERE = {
    "errors",
    "units",
    "settings",
    "host",
    "kept_file",
    "living",
    "control_groups",
    "whole_number",
    "_version",
}
ALLOWED = {
    "__init__": None,  # binds public names lazily, from every room
    "errors": set(),
    "units": set(),
    "host": set(),
    "kept_file": set(),
    "living": set(),
    "control_groups": set(),
    "whole_number": set(),
    "_version": set(),
    "budget": set(),
    "settings": {"budget"},
    "records": set(),
    "rows": {"records"},
    "ledger": {"records", "rows"},
    "energy": {"records"},
    "carbon": {"records"},
    "memory": {"records"},
    "chat": {"memory"},
    "views": {"records", "rows"},
    "nesting": set(),
    "run": {"tracker", "energy", "carbon", "memory", "records"},
    "tracker": {"ledger", "energy", "carbon", "memory", "records", "nesting", "run"},
    "repeat": {"tracker", "records"},
    "comparison": {"records", "repeat"},
    "audit": {"ledger", "records", "carbon"},
    "notebook": {
        *("tracker", "ledger", "views", "chat", "memory", "records"),
        *("audit", "budget", "carbon", "comparison", "repeat", "energy"),
    },
}
ONLY_IN = {
    "IPython": "notebook/",
    "traitlets": "notebook/",
    "ipywidgets": "views/widgets.py",
    "pynvml": "energy/sensors/",
}
AT_POINT_OF_USE = {"torch", "pynvml", "pandas", "matplotlib", "ipywidgets", "eco2ai"}
FILES = sorted(PACKAGE.rglob("*.py"))


def _imports(path: Path) -> list[tuple[str, bool]]:
    """Return (module, at module level) for each import; those for type checkers only are left out."""
    tree = ast.parse(path.read_text())
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom) and child.module:
                found.append((child.module, top))
                if child.module == "titan_nb":
                    found.extend((f"titan_nb.{alias.name}", top) for alias in child.names)
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            visit(child, top and not inside)

    visit(tree, True)
    return found


def _room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_rooms_import_only_what_the_design_allows(path: Path) -> None:
    room = _room(path)
    allowed = ALLOWED[room]
    for module, top in _imports(path):
        root, _, rest = module.partition(".")
        if root == "titan_nb" and rest and allowed is not None:
            target = rest.split(".")[0]
            assert target == room or target in EVERYWHERE | allowed, f"{path} imports {module}"
        where = ONLY_IN.get(root)
        relative = path.relative_to(PACKAGE).as_posix()
        assert where is None or relative.startswith(where), f"{relative} imports {module}"
        assert not (root in AT_POINT_OF_USE and top and relative != "views/widgets.py"), (
            f"{relative} imports {module} at module level"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_walk_sees_imports(tmp_path: Path) -> None:
    source = tmp_path / "one.py"
    source.write_text("import torch\ndef f():\n    from titan_nb import views\n")
    assert _imports(source) == [("torch", True), ("titan_nb", False), ("titan_nb.views", False)]
