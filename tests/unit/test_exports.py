from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import titan_nb

HEAVY = ("torch", "pynvml", "pandas", "matplotlib", "ipywidgets", "IPython", "eco2ai", "numpy")


def _imported(code: str) -> list[str]:
    """Return the heavy modules that a fresh interpreter holds after ``code``."""
    probe = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_every_public_name_is_there_and_nothing_else_is_promised() -> None:
    for name in titan_nb.__all__:
        assert getattr(titan_nb, name) is not None, name
    assert titan_nb.__all__ == sorted(titan_nb.__all__)
    assert dir(titan_nb) == titan_nb.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'trakc'"):
        titan_nb.trakc  # noqa: B018


def test_import_loads_nothing_heavy() -> None:
    assert _imported("import titan_nb") == []


def test_import_time_lists_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import titan_nb"],
        capture_output=True,
        text=True,
        check=True,
    )
    listed = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "titan_nb" in listed
    assert not listed & set(HEAVY)


def test_tracking_a_block_loads_nothing_heavy() -> None:
    # matplotlib, pandas and torch cost seconds; a program that only tracks must not pay for them.
    assert _imported("import titan_nb\nwith titan_nb.track() as run: pass\nassert run.report") in (
        [],
        ["pynvml"],
    )


def test_loading_the_extension_imports_only_ipython() -> None:
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "import sys; before = set(sys.modules)\n"
        "import titan_nb; titan_nb.load_ipython_extension(shell)\n"
        f"new = (set(sys.modules) - before) & set({HEAVY!r})\n"
        "assert not new, new"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_loading_is_quick(tmp_path: Path) -> None:
    # With the compiled files that an installation writes, also where the environment forbids them.
    environment = os.environ | {"PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    code = (
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\n"
        "import time; begin = time.process_time()\n"
        "shell.extension_manager.load_extension('titan_nb')\n"
        "print(time.process_time() - begin)"
    )
    # The best of a few: CPU time too grows when others fill the caches.
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        for _ in range(6)
    ]
    seconds = min(float(run.stdout) for run in runs)
    print(f"%load_ext titan_nb: {seconds:.3f} CPU seconds")
    assert seconds <= 0.10


def test_the_users_own_import_of_torch_and_pynvml_stays_silent() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "import torch, pynvml"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
