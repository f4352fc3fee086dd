"""The example notebooks as files, and the teeth of their comparison.

They are executed and compared by `pytest --nbval example_notebooks`, which `make test` runs as well.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from titan_nb.views.bundle import REPORT_MIME

EXAMPLES = Path(__file__).parents[2] / "example_notebooks"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
LOOSE = {"nbval-ignore-output", "nbval-skip", "nbval-check-output"}


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def strict(cell: nbformat.NotebookNode) -> bool:
    return not LOOSE & set(cell.metadata.get("tags", ())) and "NBVAL" not in cell.source


def shows_a_report(cell: nbformat.NotebookNode) -> bool:
    return any(REPORT_MIME in output.get("data", {}) for output in cell.outputs)


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01_track_a_cell", "02_always_on", "03_chat_memory"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_most_cells_are_compared_and_a_report_is_among_them(path: Path) -> None:
    cells = code_cells(path)
    compared = [cell for cell in cells if strict(cell)]
    assert len(compared) >= len(cells) / 2
    assert any(shows_a_report(cell) for cell in compared)
    assert "NBVAL_SKIP" not in path.read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_clean(path: Path) -> None:
    text = path.read_text()
    assert "widgets" not in nbformat.read(path, as_version=4).metadata
    assert not re.search(r"/(home|root|tmp|work|Users)/", text), "a path of somebody's machine"
    assert path.stat().st_size < 200_000
    for cell in code_cells(path):
        if shows_a_report(cell):
            assert any("simulated" in output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def test_the_runner_prints_a_table_and_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "deep" / "page.html"
    done = subprocess.run(
        [sys.executable, EXAMPLES / "run.py", NOTEBOOKS[0], "--html", page],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("modelled") + done.stdout.count("measured") + done.stdout.count("unknown") >= 5
    assert "fit" in done.stdout
    assert str(page) in done.stdout
    assert "<details" in page.read_text()


SHORT = ["%load_ext titan_nb", "%%titan --label once\nx = 6 * 7\nx"]


@pytest.mark.parametrize("broken", [False, True])
def test_a_broken_report_line_is_seen(tmp_path: Path, broken: bool) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in SHORT])
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    environment = {**os.environ, "TITAN_NB_DISPLAY": "simulated", "IPYTHONDIR": str(tmp_path / "ipython")}
    path = tmp_path / "short.ipynb"
    nbformat.write(notebook, path)
    subprocess.run(
        [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", path],
        env=environment,
        check=True,
        capture_output=True,
    )
    if broken:
        startup = tmp_path / "ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True, exist_ok=True)
        (startup / "00-break.py").write_text(
            "import titan_nb.views.bundle as bundle\nbundle.line = lambda report: 'cell ? cost something'\n"
        )
    compared = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-p", "no:cacheprovider", path],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert compared.returncode == (1 if broken else 0), compared.stdout
    if broken:
        assert "text/plain" in compared.stdout
        assert "cost something" in compared.stdout
