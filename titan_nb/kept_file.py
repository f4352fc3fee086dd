"""A file of /proc that is read again and again."""

from __future__ import annotations

import os

__all__ = ["KeptFile"]


class KeptFile:
    """A file of /proc that stays open between reads, because opening costs more than reading.

    It belongs to the process that opened it: a forked child must not use the object it inherited.

    Args:
        path: The file.
        flags: How it is opened, as for `os.open`.
    """

    def __init__(self, path: str, flags: int) -> None:
        self._path = path
        self._flags = flags
        self._opened: tuple[int, tuple[int, int] | None] | None = None

    def descriptor(self) -> int:
        """Return the open descriptor, opening the file where needed.

        Raises:
            OSError: If it cannot be opened.
        """
        if self._opened is None or not self._ours():
            descriptor = os.open(self._path, self._flags)
            self._opened = descriptor, _identity(descriptor)
        return self._opened[0]

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        if self._opened is not None and self._ours():
            os.close(self._opened[0])
        self._opened = None

    def _ours(self) -> bool:
        """Return whether the number still means our file.

        Code that closes every descriptor, as daemons do, gives it to the next file that the user opens.
        """
        return self._opened is not None and _identity(self._opened[0]) == self._opened[1]


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        stat = os.fstat(descriptor)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
