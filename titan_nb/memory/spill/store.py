"""Where the bytes of a spilled tensor are meanwhile: in host memory, or in a file."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from titan_nb import units
from titan_nb.errors import SpillError
from titan_nb.memory.container import container
from titan_nb.memory.spill.folder import private_folder

__all__ = ["Copy", "DiskCopy", "HostCopy", "plain_torch"]

_CHUNK_BYTES = 16 * 1024 * 1024


class Copy(Protocol):
    """The bytes of one storage, kept elsewhere.

    Attributes:
        where: In words.
    """

    where: str

    def fill(self, storage: Any) -> None:
        """Write the bytes into ``storage``, which has their size; may be asked again.

        Raises:
            SpillError: If they are gone or damaged.
        """

    def drop(self) -> None:
        """Give up the bytes."""


class HostCopy:
    """Bytes of a GPU in host memory, pinned where the GPU's driver can do that.

    Args:
        storage: The torch storage to copy.

    Raises:
        OSError: If the host has too little memory.
    """

    where = "host memory"

    def __init__(self, storage: Any) -> None:
        size_bytes = storage.nbytes()
        free_bytes = _host_room_bytes()
        if size_bytes >= free_bytes:
            raise OSError(errno.ENOMEM, f"the host has {units.byte_size(free_bytes)} left")
        with plain_torch():
            self._host = _host_memory(size_bytes)
            self._host.copy_(storage, non_blocking=False)

    def fill(self, storage: Any) -> None:
        """Write the bytes into ``storage``."""
        with plain_torch():
            storage.copy_(self._host, non_blocking=False)

    def drop(self) -> None:
        """Give up the bytes."""
        self._host = None


class DiskCopy:
    """Bytes in a file of this process's private folder.

    The file goes when the bytes are given up, when nobody holds this object any more, and at the latest
    when the process ends. A forked child can read it and leaves it there.

    Args:
        storage: The torch storage to copy.
        name: What the tensor is called, for messages.

    Raises:
        OSError: If the disk is full or the file cannot be written.
    """

    where = "disk"

    def __init__(self, storage: Any, name: str) -> None:
        self._name = name
        self._pid = os.getpid()
        self._path: Path | None = None
        folder = private_folder()
        free_bytes = shutil.disk_usage(folder).free
        if storage.nbytes() >= free_bytes:
            raise OSError(errno.ENOSPC, f"the disk has {units.byte_size(free_bytes)} left")
        self._path = folder / f"{os.urandom(8).hex()}.bytes"
        self._checksum = 0
        try:
            with plain_torch(), self._path.open("xb", buffering=0) as file:
                for chunk in _read(storage):
                    self._checksum = zlib.crc32(chunk, self._checksum)
                    while chunk:
                        chunk = chunk[file.write(chunk) :]
        except BaseException:
            self.drop()
            raise

    def fill(self, storage: Any) -> None:
        """Write the bytes into ``storage``, and check that they are the ones that were spilled."""
        checksum = 0
        try:
            with plain_torch(), self._file().open("rb", buffering=0) as file:
                whole = os.fstat(file.fileno()).st_size == storage.nbytes()
                for chunk in _write(storage, file) if whole else ():
                    checksum = zlib.crc32(chunk, checksum)
        except OSError as error:
            raise SpillError(
                f"{self._name} was spilled to disk and cannot be read back: {error.strerror} "
                f"({self._path}); make it again, or repeat this once the file can be read"
            ) from error
        if not whole or checksum != self._checksum:
            raise SpillError(
                f"{self._name} was spilled to disk and its file has changed since ({self._path}); "
                "make it again"
            )

    def drop(self) -> None:
        """Remove the file."""
        path, self._path = self._path, None
        if path is not None and os.getpid() == self._pid:
            with contextlib.suppress(OSError):
                path.unlink()

    def __del__(self) -> None:
        self.drop()

    def _file(self) -> Path:
        if self._path is None:
            raise FileNotFoundError(errno.ENOENT, "its file was given up")
        return self._path


@contextlib.contextmanager
def plain_torch() -> Iterator[None]:
    """Let torch do what it is told, whatever modes and transforms the user's code is in."""
    import torch

    with (
        torch._C.DisableTorchFunction(),
        torch._C._DisableTorchDispatch(),
        torch._C._DisableFuncTorch(),
        torch.no_grad(),
    ):
        yield


def _host_room_bytes() -> int:
    """Return how much the host can still give this process before its kernel ends one."""
    import psutil

    room = int(psutil.virtual_memory().available)
    limit = container()
    return room if limit is None else min(room, limit.limit_bytes - limit.used_bytes)


def _host_memory(size_bytes: int) -> Any:
    import torch

    with contextlib.suppress(RuntimeError):
        if torch.cuda.is_initialized():
            return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=True).untyped_storage()
    return torch.empty(size_bytes, dtype=torch.uint8).untyped_storage()


def _read(storage: Any) -> Iterator[memoryview]:
    """Yield the bytes of a storage, a chunk at a time."""
    if storage.device.type == "cpu":
        whole = _memory(storage)
        for start in range(0, len(whole), _CHUNK_BYTES):
            yield whole[start : start + _CHUNK_BYTES]
        return
    flat, stage = _staged(storage)
    for start in range(0, storage.nbytes(), _CHUNK_BYTES):
        part = flat[start : start + _CHUNK_BYTES]
        stage[: part.numel()].copy_(part)
        yield _memory(stage.untyped_storage())[: part.numel()]


def _write(storage: Any, file: Any) -> Iterator[memoryview]:
    """Fill a storage from a file, and yield what was read, a chunk at a time."""
    if storage.device.type == "cpu":
        whole = _memory(storage)
        for start in range(0, len(whole), _CHUNK_BYTES):
            yield _filled(whole[start : start + _CHUNK_BYTES], file)
        return
    flat, stage = _staged(storage)
    for start in range(0, storage.nbytes(), _CHUNK_BYTES):
        part = flat[start : start + _CHUNK_BYTES]
        yield _filled(_memory(stage.untyped_storage())[: part.numel()], file)
        part.copy_(stage[: part.numel()])


def _filled(chunk: memoryview, file: Any) -> memoryview:
    left = chunk
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError(errno.EIO, "the file ends too early")
        left = left[count:]
    return chunk


def _memory(storage: Any) -> memoryview:
    return memoryview((ctypes.c_char * storage.nbytes()).from_address(storage.data_ptr())).cast("B")


def _staged(storage: Any) -> tuple[Any, Any]:
    """Return the storage as a flat tensor of bytes, and room on the host for one chunk of it."""
    import torch

    flat = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
    return flat, torch.empty(min(_CHUNK_BYTES, storage.nbytes()), dtype=torch.uint8, device="cpu")
