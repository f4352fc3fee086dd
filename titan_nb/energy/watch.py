"""Reads one counter on the sampler's thread, whenever its track wants to know."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable

from titan_nb.energy.account import Account
from titan_nb.energy.faults import Faults
from titan_nb.energy.sampler import Sampler, Ticket
from titan_nb.energy.track import Track

__all__ = ["Watch"]

_NO_CLOCK_SECONDS = 1.0


class Watch:
    """The looks at one counter.

    Args:
        track: The bookkeeping of the counter.
        lock: The meter's lock over all tracks.
        sampler: Where the counter is read.
        faults: Where warnings go.
        now: The meter's clock, in seconds; NaN when it fails.
    """

    def __init__(
        self, track: Track, lock: threading.Lock, sampler: Sampler, faults: Faults, now: Callable[[], float]
    ) -> None:
        self.track = track
        self._lock = lock
        self._sampler = sampler
        self._faults = faults
        self._now = now
        self._planned: Ticket | None = None
        self._due = math.inf
        self._tickets: list[Ticket] = []
        self._closed = False

    @property
    def hung(self) -> Ticket | None:
        """The read that did not come back, if there is one."""
        return next((ticket for ticket in tuple(self._tickets) if ticket.stuck), None)

    def edge(self, then: Callable[[Ticket], None]) -> Ticket | None:
        """Have the counter read at an edge of a window; return the ticket of the read.

        Returns None, and lets it be, where the counter cannot have moved since it was last read: the next
        look is at its next tick in any case.
        """
        now = self._now()
        with self._lock:
            self.track.edge()
            fresh = self.track.fresh(now)
            delay = self.track.next_look(now) if fresh else 0.0
        if fresh:
            if now + delay < self._due:
                self._plan(now, delay)
            return None
        return self._keep(self._sampler.submit(self._read, then))

    def refresh(self) -> None:
        """Read the counter here and now; called on the sampler's thread."""
        self._read()

    def close(self) -> None:
        """Look no more."""
        self._closed = True

    def fail(self, why: str) -> None:
        """Give the counter up."""
        self.close()
        with self._lock:
            done = self.track.fail(why)
        _tell(done)

    def _keep(self, ticket: Ticket) -> Ticket:
        self._tickets = [one for one in self._tickets if not one.done or one.stuck] + [ticket]
        return ticket

    def _plan(self, now: float, delay: float) -> None:
        """Plan the next look, in the place of the one that was planned."""
        planned = self._planned
        if planned is not None:
            planned.finish()
        if not math.isfinite(delay):
            delay = _NO_CLOCK_SECONDS
        self._due = now + delay
        self._planned = self._keep(self._sampler.submit(self._read, delay_seconds=delay))

    def _read(self) -> None:
        # A counter that hangs would take the successor's thread with it, and all other devices.
        if self._closed or self.hung is not None:
            return
        sensor, track = self.track.sensor, self.track
        if track.wants_watts:
            with contextlib.suppress(Exception):  # It only makes the first figure better.
                track.told_watts(sensor.watts_now())
        reading = self._faults.read(sensor)
        now, delay = self._now(), _NO_CLOCK_SECONDS
        try:
            with self._lock:
                done, trouble = track.take(reading, now)
                delay = track.next_look(now)
            if trouble:
                self._faults.add("energy", f"energy of {sensor.name} is unknown: {trouble}")
            _tell(done)
        finally:
            self._plan(now, delay)
        with contextlib.suppress(Exception):  # Without a trace there are still figures.
            track.trace.prepare()  # here, where nobody waits for the lock


def _tell(done: list[Account]) -> None:
    for account in done:
        if account.listener is not None:
            account.listener()
