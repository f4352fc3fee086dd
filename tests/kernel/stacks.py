"""Virtual environments with older IPython and ipykernel, made once and kept."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["NEWEST", "stack_python"]

NEWEST = "newest"
"""The stack that runs the tests themselves."""

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
    recipe = f"{sys.version} {PACKAGES} {ROOT}\n{constraints.read_text()}"
    stamp = hashlib.sha256(recipe.encode()).hexdigest()
    folder = ROOT / ".stacks" / name
    python, stamped = folder / "bin" / "python", folder / "stamp"
    if not (stamped.exists() and stamped.read_text() == stamp):
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run(
            [python, "-m", "pip", "install", "--quiet", "--constraint", constraints, *PACKAGES], check=True
        )
        site = subprocess.check_output(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
        )
        (Path(site.strip()) / "titan_nb_checkout.pth").write_text(f"{ROOT}\n")
        stamped.write_text(stamp)
    return python
