"""The C library, built once for each state of its sources."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["library"]

SOURCES = Path(__file__).parent
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread")
# Set, so that a library loaded by its path is found again by its name.
NAME = "libnvidia-ml.so.1"


@functools.cache
def library() -> Path:
    """Return the path of the built library.

    Raises:
        RuntimeError: If there is no C compiler, or it fails.
    """
    files = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"titan-fake-nvml-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to another user: remove it, or set TMPDIR")
    target = folder / NAME
    if not target.exists():
        _compile([str(file) for file in files if file.suffix == ".c"], folder, target)
    return target


def _compile(sources: list[str], folder: Path, target: Path) -> None:
    compiler = os.environ.get("CC") or "cc"
    if shutil.which(compiler) is None:
        raise RuntimeError(f"the fake NVML library needs a C compiler; there is no {compiler!r}: install gcc")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch) / NAME
        command = [compiler, *FLAGS, f"-Wl,-soname,{NAME}", *sources, "-lm", "-o", str(built)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the fake NVML library cannot be built:\n{done.stderr}")
        built.replace(target)
