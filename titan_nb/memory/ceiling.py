"""A limit of the whole process that several windows lower, each for its own time."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from titan_nb.living import Living

__all__ = ["Ceiling", "Hold"]


class Hold:
    """One window's share in a `Ceiling`: how low it keeps it."""

    __slots__ = ("__weakref__", "value")

    def __init__(self, value: float) -> None:
        self.value = value


class Ceiling:
    """A limit of which the process has one only; the tightest open hold is in force.

    Holds may end in any order. Once all have ended the limit is what it was before the first. Whoever else
    changes the limit meanwhile, as the user's own code may, has the last word until the next hold begins.

    In a forked child nothing is changed: it inherits the limit that was in force at the fork.

    Args:
        read: Returns the limit in force.
        write: Sets it; may raise.
    """

    def __init__(self, read: Callable[[], float], write: Callable[[float], None]) -> None:
        self._read = read
        self._write = write
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # Weak, so that a hold whose owner was interrupted before it could release it does not stay for ever.
        self._holds: Living[Hold] = Living()
        self._before: float | None = None
        self._ours: float | None = None

    def lower(self, value: float) -> Hold:
        """Keep the limit at ``value`` or below until `release`; a lower one that is in force stays."""
        hold = Hold(value)
        with self._lock:
            now = self._read()
            if self._before is None or now != self._ours:
                self._before, self._ours = now, now
            self._holds.add(hold)
            try:
                self._apply(self._before)
            except BaseException:
                self._holds.discard(hold)
                raise
        return hold

    def release(self, hold: Hold) -> None:
        """End one hold; a second time does nothing."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if hold in self._holds:
                self._holds.discard(hold)
                self._settle()

    def _settle(self) -> None:
        """Bring the limit to what the holds ask for, unless somebody else has set it meanwhile."""
        before = self._before
        if before is not None and self._read() == self._ours:
            self._apply(before)
        if not len(self._holds):
            self._before = self._ours = None

    def _apply(self, before: float) -> None:
        wanted = min((before, *(hold.value for hold in self._holds)))
        if wanted != self._ours:
            self._write(wanted)
            # Read back, because a driver may keep a rounded value.
            self._ours = self._read()
