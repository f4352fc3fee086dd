"""The C++ library, built once for each state of its sources and each torch."""

from __future__ import annotations

import fcntl
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

__all__ = ["library"]

SOURCES = Path(__file__).parent
FLAGS = (
    "-std=c++20",
    "-O1",
    "-fPIC",
    "-Wall",
    "-Wno-interference-size",
    # Otherwise each file reads the headers of all of torch's operators.
    "-DAT_PER_OPERATOR_HEADERS",
)
NAME = "libfakegpu.so"


@functools.cache
def library() -> Path:
    """Return the path of the built library; another process that is building it is waited for.

    It speaks to torch's C++ alone, so one build does for every Python.

    Raises:
        RuntimeError: If there is no C++ compiler, or it fails.
    """
    import torch

    files = sorted(SOURCES.glob("*.cpp")) + sorted(SOURCES.glob("*.h"))
    parts = [file.read_bytes() for file in files] + [" ".join(FLAGS).encode(), torch.__version__.encode()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"titan-fake-accelerator-{os.getuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RuntimeError(f"{folder} belongs to another user: remove it, or set TMPDIR")
    target = folder / NAME
    if not target.exists():
        with _only_one(folder):
            if not target.exists():
                _build([file for file in files if file.suffix == ".cpp"], folder, target)
    return target


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(sources: list[Path], folder: Path, target: Path) -> None:
    import torch

    compiler = os.environ.get("CXX") or "g++"
    if shutil.which(compiler) is None:
        raise RuntimeError(
            f"the fake accelerator needs a C++ compiler; there is no {compiler!r}: install g++"
        )
    root = Path(torch.__file__).parent
    flags = [*FLAGS, f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    include = root / "include"
    includes = [f"-I{include}", f"-I{include / 'torch/csrc/api/include'}"]
    with tempfile.TemporaryDirectory(dir=folder) as scratch:

        def compile_one(source: Path) -> str:
            made = Path(scratch) / f"{source.stem}.o"
            _run([compiler, *flags, *includes, "-c", str(source), "-o", str(made)])
            return str(made)

        with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
            objects = list(pool.map(compile_one, sources))
        built = Path(scratch) / NAME
        libraries = [f"-L{root / 'lib'}", "-ltorch_cpu", "-lc10"]
        _run([compiler, "-shared", *objects, *libraries, "-o", str(built)])
        built.replace(target)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the fake accelerator cannot be built:\n{done.stderr}")
