"""What a forecast refuses to do, and what it says of it: writing, the network, programs, questions."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

__all__ = ["Refusals", "Refused"]


class Refused(PermissionError):  # noqa: N818 - a decision, not a fault
    """The code under forecast asked for something that would outlive the forecast."""


MOST = 20
"""How many refusals are told; a loop may run into thousands."""

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.remove": "delete",
    "os.rename": "rename",
    "os.mkdir": "make the folder",
    "os.rmdir": "delete the folder",
    "os.link": "link",
    "os.symlink": "link",
    "os.truncate": "truncate",
    "os.chmod": "change",
    "os.chown": "change",
    "os.utime": "change",
    "os.setxattr": "change",
    "os.removexattr": "change",
    "sqlite3.connect": "open the database",
}
_NETWORK = {
    "socket.connect",
    "socket.bind",
    "socket.sendto",
    "socket.sendmsg",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.gethostbyaddr",
    "webbrowser.open",
}
_PROGRAMS = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
    "os.startfile",
}
_SIGNALS = {"os.kill", "os.killpg"}


class Refusals:
    """Refuses in this process, for as long as it lives, and remembers what.

    Args:
        line: Says which line of the cell is running.
    """

    def __init__(self, line: Callable[[], int | None]) -> None:
        self.seen: list[tuple[int | None, str]] = []
        self._line = line

    def begin(self) -> None:
        """Refuse from now on. There is no way back: Python's audit hooks stay."""
        sys.addaudithook(self._audit)
        sys.dont_write_bytecode = True
        # A thread would run its operations for real: the modes of torch belong to one thread.
        setattr(threading.Thread, "start", lambda _: self.refuse("start a thread"))  # noqa: B010 - for mypy

    def refuse(self, what: str) -> NoReturn:
        """Refuse to do ``what``.

        Raises:
            Refused: Always.
        """
        entry = self._line(), what
        if entry not in self.seen and len(self.seen) < MOST:
            self.seen.append(entry)
        raise Refused(f"a dry run does not {what}")

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & _WRITES and path != os.devnull:
                self.refuse(f"write to {_shown(path)}")
        elif event in _CHANGES:
            self.refuse(f"{_CHANGES[event]} {_shown(arguments[0])}")
        elif event in _NETWORK:
            self.refuse("use the network")
        elif event in _PROGRAMS:
            self.refuse("start a program or another process")
        elif event in _SIGNALS and arguments[0] != os.getpid():
            self.refuse("send a signal to another process")


def _shown(path: object) -> str:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    return repr(path) if type(path) is str else "a file"
