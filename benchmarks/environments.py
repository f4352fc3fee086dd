"""The peers' own virtual environments, so that neither they nor their pins come near titan's."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

__all__ = ["REQUIREMENTS", "PeerMissingError", "environment", "installed"]

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "carbontracker": ("carbontracker",),
    "codecarbon": ("codecarbon",),
    # Its own metadata has no upper bounds: with pandas 3 it cannot finish, without pkg_resources not start.
    "eco2ai": ("eco2ai==0.3.12", "pandas<3", "setuptools<82"),
    "faiss-cpu": ("faiss-cpu",),
    "ipyexperiments": ("ipyexperiments", "pynvml<13", "setuptools<82"),
    "lancedb": ("lancedb", "pyarrow"),
    "nano-vectordb": ("nano-vectordb",),
    "pytorch_memlab": ("pytorch_memlab", "torch==2.13.0", "setuptools<82"),
    "turbovec": ("turbovec",),
    "zeus": ("zeus",),
}


class PeerMissingError(Exception):
    """A peer's environment could not be made."""


def environment(peer: str, root: Path) -> Path:
    """Return the Python of the peer's environment, which is made first where there is none.

    Args:
        peer: A key of `REQUIREMENTS`.
        root: The folder of all environments.

    Raises:
        PeerMissingError: If it cannot be made.
    """
    # The same shell as titan's, so that the plain cell is the same one.
    wanted = [*REQUIREMENTS[peer], *(f"{name}=={version(name)}" for name in ("ipython", "ipykernel"))]
    folder = root / peer
    python, stamp = folder / "bin" / "python", folder / "requirements.txt"
    text = "\n".join(wanted) + "\n"
    if not (stamp.is_file() and stamp.read_text(encoding="utf-8") == text):
        print(f"making the environment of {peer} ...", file=sys.stderr)
        _run(peer, sys.executable, "-m", "venv", "--clear", str(folder))
        _run(peer, str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet", *wanted)
        stamp.write_text(text, encoding="utf-8")
    return python


def installed(python: Path, distribution: str) -> str:
    """Return the version of ``distribution`` that ``python`` has."""
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def _run(peer: str, *command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        raise PeerMissingError(f"{peer} could not be installed here (exit code {done.returncode})")
