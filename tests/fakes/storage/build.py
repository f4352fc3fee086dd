"""The recorder, built once for each state of its source."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["library"]

SOURCE = Path(__file__).with_name("recorder.c")
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-pthread")


@functools.cache
def library() -> Path:
    """Return the path of the built library.

    Raises:
        RuntimeError: If there is no C compiler, or it fails.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"titan-storage-recorder-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to another user: remove it, or set TMPDIR")
    target = folder / "recorder.so"
    if target.exists():
        return target
    compiler = os.environ.get("CC") or "cc"
    if shutil.which(compiler) is None:
        raise RuntimeError(f"the recorder needs a C compiler; there is no {compiler!r}: install gcc")
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        built = Path(scratch) / target.name
        done = subprocess.run(
            [compiler, *FLAGS, str(SOURCE), "-ldl", "-o", str(built)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the recorder cannot be built:\n{done.stderr}")
        built.replace(target)
    return target
