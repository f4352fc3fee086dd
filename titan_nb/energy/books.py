"""Which time belongs to windows and which to gaps, on every counter, so that each joule is counted once."""

from __future__ import annotations

import contextlib
import math
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from titan_nb.energy.faults import Faults
from titan_nb.energy.slots import charged
from titan_nb.energy.watch import Watch
from titan_nb.living import Living
from titan_nb.records import Energy

if TYPE_CHECKING:
    from titan_nb.energy.window import Window

__all__ = ["Books", "Overlap", "Stretch"]


class Stretch:
    """A stretch of time with an account on each counter: a gap, or what is left of overlapping windows.

    Attributes:
        started: Start in seconds.
        ended: End in seconds; ``inf`` while it is open.
    """

    def __init__(self, watches: tuple[Watch, ...], started: float, faults: Faults, *, works: bool) -> None:
        self.started = started
        self.ended = math.inf
        self._faults = faults
        self._accounts = {
            watch.track.sensor.key: (watch, watch.track.open(started, self, works=works)) for watch in watches
        }
        self._listeners: list[Callable[[], None]] = []

    def close(self, ended: float) -> None:
        """End it; the meter's lock is held."""
        self.ended = ended
        for watch, account in self._accounts.values():
            watch.track.close(account, ended)
            account.listener = self._settled

    @property
    def energy(self) -> dict[str, Energy]:
        """The energy of each counter by device key, as far as it is known."""
        return {
            key: charged(watch, account, self._faults) for key, (watch, account) in self._accounts.items()
        }

    def when_final(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` once, when nothing will change any more."""
        self._listeners.append(listener)
        self._settled()

    def _settled(self) -> None:
        if all(account.final for _, account in self._accounts.values()):
            with contextlib.suppress(IndexError):  # The one step that two threads cannot both take.
                self._listeners.pop()()


@dataclass(slots=True)
class Overlap:
    """Windows with never a moment in which none of them was open.

    Attributes:
        numbers: Their numbers, for who keeps their reports.
        first: The one that began first, once it has ended before the others.
        last: The one that ended last.
    """

    numbers: list[int] = field(default_factory=list)
    first: Window | None = None
    last: Window | None = None


class Books:
    """How many windows are open, and what else must be kept so that nothing is counted twice or lost.

    While windows follow one another, each is a stretch of its own, with a gap in between. Where windows
    overlap, the first one's time is counted by itself, and what follows until the last one has ended by a
    *tail*.

    Attributes:
        lock: Held by who calls a method, and by who shares out a step of a counter.
    """

    def __init__(self, faults: Faults) -> None:
        self.lock = threading.Lock()
        self._faults = faults
        # Weak: a window whose owner was interrupted in the wrong place must not stay open for ever.
        self._open: Living[Window] = Living()
        self._first: weakref.ref[Window] | None = None
        self._overlap = Overlap()
        self._gap: Stretch | None = None
        self._tail: Stretch | None = None

    def begin(self, window: Window, started: float) -> Stretch | None:
        """Take note that ``window`` begins; return the gap that this ends, if there is one."""
        gap, self._gap = self._gap, None
        if gap is not None:
            gap.close(started)
        if not self._open:
            self._first = weakref.ref(window)
            self._overlap = Overlap()
        window.overlap = self._overlap
        self._open.add(window)
        return gap

    def end(self, window: Window, watches: tuple[Watch, ...], ended: float) -> tuple[Stretch | None, bool]:
        """Take note that ``window`` ends.

        Returns:
            The tail that begins or ends with it, if one does; and whether it was the last open window.
        """
        self._open.discard(window)
        if self._open:
            if self._first is None or window is not self._first():
                return None, False
            self._first = None
            self._tail = Stretch(watches, ended, self._faults, works=True)
            return self._tail, False
        self._gap = Stretch(watches, ended, self._faults, works=False)
        tail, self._tail = self._tail, None
        if tail is not None:
            tail.close(ended)
        return tail, True
