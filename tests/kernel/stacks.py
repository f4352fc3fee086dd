"""Virtual environments with older IPython and ipykernel, or with other Pythons, made once and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["NEWEST", "PYTHONS", "stack_python"]

NEWEST = "newest"
"""The stack that runs the tests themselves."""

PYTHONS = ("python-3.10", "python-3.12", "python-3.13")
"""The stacks of other Pythons; these have torch, which takes gigabytes."""

ROOT = Path(__file__).parents[2]
# No torch: tracking must work where it cannot be imported.
PACKAGES = ("ipython", "ipykernel", "numpy", "psutil", "matplotlib", "setuptools")


def stack_python(name: str) -> Path:
    """Return the interpreter of a stack, making its environment if it is missing or out of date.

    Args:
        name: `NEWEST`, or the name of a constraints file in ``tests/stacks``.
    """
    python = Path(sys.executable) if name == NEWEST else _made(name)
    # The first import of matplotlib builds its font cache, and says so on the user's stderr.
    subprocess.run([python, "-c", "import matplotlib.font_manager"], check=True, capture_output=True)
    return python


def _made(name: str) -> Path:
    constraints = ROOT / "tests" / "stacks" / f"{name}.txt"
    interpreter = _interpreter(name) if name in PYTHONS else sys.executable
    packages = (*PACKAGES, "torch") if name in PYTHONS else PACKAGES
    recipe = f"{sys.version} {packages} {ROOT}\n{constraints.read_text()}"
    stamp = hashlib.sha256(recipe.encode()).hexdigest()
    folder = ROOT / ".stacks" / name
    python, stamped = folder / "bin" / "python", folder / "stamp"
    if not (stamped.exists() and stamped.read_text() == stamp):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, *packages], check=True
        )
        site = subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        )
        (Path(site.strip()) / "titan_nb_checkout.pth").write_text(f"{ROOT}\n")
        stamped.write_text(stamp)
    return python


def _interpreter(name: str) -> str:
    """Return the Python of a stack in `PYTHONS`, from the PATH or from pyenv."""
    version = name.removeprefix("python-")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [f"python{version}", *sorted(map(str, pyenv.glob(f"versions/{version}.*/bin/python")))]
    for candidate in filter(shutil.which, candidates):
        # A shim of pyenv is on the PATH also where it leads nowhere.
        if subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    raise FileNotFoundError(f"these tests need Python {version}: put python{version} on the PATH")
