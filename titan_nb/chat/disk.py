"""Writing that is on the disk when it is done, and what is said when it cannot be."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from titan_nb.errors import ChatError, ResourceError
from titan_nb.units import byte_size

__all__ = ["disk_error", "flush", "flush_folder", "write_all"]

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


def write_all(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` (bytes) at ``offset``; the system may take it in several pieces.

    Raises:
        OSError: If it cannot be written; a part of it may have been.
    """
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


def flush(descriptor: int) -> None:
    """Return when what was written to a file, and its size, is on the disk.

    Raises:
        OSError: If it cannot be; what was written since the last call is then unknown.
    """
    if hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)
    else:  # pragma: no cover  # macOS, where fsync alone leaves the data in the drive's cache
        import fcntl

        fcntl.fcntl(descriptor, getattr(fcntl, "F_FULLFSYNC", 51))


def flush_folder(folder: Path) -> None:
    """Return when the names in a folder (files made, renamed, removed) are on the disk.

    Raises:
        OSError: If they cannot be.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(
    error: OSError, doing: str, folder: Path, needed_bytes: int | None = None
) -> ChatError | ResourceError:
    """Return the error to raise, with ``error`` as its cause, where a file could not be written.

    Args:
        error: What the system said.
        doing: What was to be done: ``"storing 20 rows"``.
        folder: Where.
        needed_bytes: What it takes, where that is known.
    """
    if error.errno not in _FULL:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return ChatError(f"{doing} in {folder} failed ({reason}), and nothing was changed: check the disk")
    free = _free_bytes(folder)
    needs = "" if needed_bytes is None else f" needs {byte_size(needed_bytes)}, and"
    left = "unknown" if free is None else byte_size(free)
    limit = "a file may grow no further" if error.errno == errno.EFBIG else f"free there: {left}"
    return ResourceError(
        f"{doing} in {folder}{needs} cannot be done ({limit}), and nothing was changed: make room, or use a "
        "folder on another disk",
        requested_bytes=needed_bytes,
        available_bytes=free,
        device="disk",
    )


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
