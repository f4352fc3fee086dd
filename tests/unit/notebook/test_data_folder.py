"""Where the memory of a notebook goes when no folder is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from titan_nb.notebook.data_folder import data_home, folder_of

ABSOLUTE = str(Path("/data").absolute())


def shell(**names: object) -> SimpleNamespace:
    return SimpleNamespace(user_ns=names)


@pytest.mark.parametrize(
    ("names", "environ"),
    [
        ({"__vsc_ipynb_file__": "/home/u/fit.ipynb"}, {}),
        ({"__session__": "/home/u/fit.ipynb"}, {}),
        ({}, {"JPY_SESSION_NAME": "/home/u/fit.ipynb"}),
        ({"__vsc_ipynb_file__": "/home/u/fit.ipynb", "__session__": "/x/fit-jvsc-1.ipynb"}, {}),
        ({"__session__": 7, "__vsc_ipynb_file__": ""}, {"JPY_SESSION_NAME": "/home/u/fit.ipynb"}),
    ],
)
def test_it_bears_the_name_of_the_notebook(names: dict[str, object], environ: dict[str, str]) -> None:
    folder = folder_of(shell(**names), {"XDG_DATA_HOME": ABSOLUTE, **environ})
    assert folder is not None
    assert folder.parent == Path(ABSOLUTE) / "titan_nb" / "chats"
    assert folder.name.startswith("fit-")
    assert folder == folder_of(shell(__session__="/home/u/fit.ipynb"), {"XDG_DATA_HOME": ABSOLUTE})


def test_two_notebooks_of_one_name_have_two() -> None:
    assert folder_of(shell(__session__="/a/fit.ipynb"), {}) != folder_of(
        shell(__session__="/b/fit.ipynb"), {}
    )


def test_without_a_name_there_is_none() -> None:
    assert folder_of(shell(), {}) is None


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, Path.home() / ".local/share/titan_nb"),
        ("linux", {"XDG_DATA_HOME": ABSOLUTE}, Path(ABSOLUTE) / "titan_nb"),
        ("linux", {"XDG_DATA_HOME": "relative"}, Path.home() / ".local/share/titan_nb"),
        ("win32", {"LOCALAPPDATA": ABSOLUTE}, Path(ABSOLUTE) / "titan_nb"),
        ("darwin", {"XDG_DATA_HOME": ABSOLUTE}, Path.home() / "Library/Application Support/titan_nb"),
    ],
)
def test_the_folder_for_data(platform: str, environ: dict[str, str], expected: Path) -> None:
    assert data_home(environ, platform) == expected
