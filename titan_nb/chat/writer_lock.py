"""The lock that lets one process write to a folder."""

from __future__ import annotations

import errno
import json
import os
import socket
from pathlib import Path

from titan_nb.errors import ChatError

__all__ = ["WriterLock"]

_HELD = {errno.EACCES, errno.EAGAIN}
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_ours: set[tuple[int, int, int]] = set()


class WriterLock:
    """An exclusive lock on a file, which ends with the process, whatever ends it.

    A record lock of POSIX: a forked child does not hold it, so that it cannot outlive its owner. Such a lock
    is lost when the process closes any descriptor of the file, and does not keep out the same process:
    ``_ours`` is asked before the file is opened.

    Args:
        descriptor: The open file.
        identity: This process, and the device and inode of the file.
    """

    def __init__(self, descriptor: int, identity: tuple[int, int, int]) -> None:
        self._descriptor: int | None = descriptor
        self._identity = identity

    @classmethod
    def take(cls, path: Path) -> WriterLock:
        """Take the lock.

        Raises:
            ChatError: If somebody else has it, who is named, or the file system has no locks.
            OSError: If the file cannot be made.
        """
        import fcntl

        if path.exists() and _identity(path.stat()) in _ours:
            raise _refusal(path.parent, f"this process ({os.getpid()}) has it open already: use that one")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in _HELD:
                    raise _refusal(path.parent, _holder(descriptor)) from None
                if error.errno in _WITHOUT_LOCKS:
                    raise ChatError(
                        f"the file system of {path.parent} has no locks ({os.strerror(error.errno)}), "
                        "without which two writers would destroy each other's rows: use a folder on a local "
                        "disk, or read with mode='r'"
                    ) from error
                raise
            owner = {"pid": os.getpid(), "host": socket.gethostname()}
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(owner).encode(), 0)
            identity = _identity(os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        _ours.add(identity)
        return cls(descriptor, identity)

    def release(self) -> None:
        """Let others write."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            _ours.discard(self._identity)
            os.close(descriptor)


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    # With the process: a forked child inherits the set, and holds none of the locks.
    return os.getpid(), status.st_dev, status.st_ino


def _refusal(folder: Path, who: str) -> ChatError:
    return ChatError(f"another writer has the memory in {folder}: {who}")


def _holder(descriptor: int) -> str:
    way_out = "read with mode='r', write through that one, or close it there"
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(owner['pid'])} on {owner['host']}: {way_out}"
    except (OSError, ValueError, KeyError, TypeError):
        return f"an unknown process: {way_out}"
