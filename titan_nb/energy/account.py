"""What one window, or one gap, gets of one counter."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

from titan_nb.energy.apportion import Span
from titan_nb.energy.bracket import MAX_WATTS, Bracket
from titan_nb.energy.sensors import Counter, Reading
from titan_nb.energy.steps import Step, Tick
from titan_nb.records import Energy

__all__ = ["NOT_IN_TIME", "Account"]

NOT_IN_TIME = "not read in time"


class Account:
    """The energy of one counter in one stretch of time.

    It is *final* once the first tick after the end has been seen, or has not come for long; then its
    ``listener``, if it has one, is called once, on the sampler's thread.

    Args:
        started: Start in seconds.
        last: The last reading before it; None where there was none.
        duty: See `Counter`.
        owner: Who will close it.
        works: True for a window, False for a gap.
    """

    def __init__(
        self, started: float, last: Reading | None, duty: float, owner: object, *, works: bool = True
    ) -> None:
        self._owner = weakref.ref(owner)
        self.begin = last
        self.end: Reading | None = None
        self.final = False
        self.why = ""
        self.works = works
        self.seen_first_tick = False
        self.listener: Callable[[], None] | None = None
        self._joules = 0.0
        self._moved = self._ticked = self._known = False
        self._bracket = Bracket(started, duty)
        self._missed_seconds = 0.0

    @property
    def started(self) -> float:
        """Start in seconds."""
        return self._bracket.started

    @property
    def ended(self) -> float:
        """End in seconds; ``inf`` while it is open."""
        return self._bracket.ended

    @property
    def orphaned(self) -> bool:
        """Whether who was to close it has gone without having done so."""
        return self.ended == math.inf and self._owner() is None

    @property
    def answered(self) -> bool:
        """Whether there is a figure, or will be none."""
        return self.final or self._known or self.end is not None

    @property
    def span(self) -> Span:
        """The stretch of time."""
        return Span(self.started, self.ended, self.works)

    def close(self, ended: float, *, known: bool) -> None:
        """End the stretch.

        Args:
            ended: Its end in seconds.
            known: Whether the last reading still holds then, so that no other is needed for a first figure.
        """
        self._bracket.ended = ended
        self._known = known

    def read(self, reading: Reading) -> None:
        """Take note of a reading."""
        if self.begin is None:
            self.begin = reading
            self._missed_seconds = max(0.0, min(reading.at, self.ended) - self.started)
        if self.end is None and reading.at >= self.ended:
            self.end = reading

    def add(self, step: Step, share: float) -> None:
        """Take in a step of the counter and this account's share of it in joules."""
        self._joules += share
        self._bracket.add(step)
        self._moved = True
        self.seen_first_tick = self.seen_first_tick or step.end.earliest >= self.started
        self._ticked = self._ticked or step.end.earliest >= self.ended
        self.final = self.final or self._ticked

    def fail(self, why: str) -> None:
        """Give it up."""
        self.why = self.why or why
        self.final = True

    def expire(self, why: str) -> None:
        """Wait no longer for the tick after the end.

        Args:
            why: What is wrong with the counter now, or nothing.
        """
        if self.end is None:
            why = why or NOT_IN_TIME
        elif self._moved:
            why = ""
        else:
            why = why or "the counter did not move"
        self.fail(why)

    def whole(
        self, sensor: Counter, tick: Tick, idle_watts: float | None, now: float | None = None
    ) -> Energy:
        """Return the energy of the whole device, as far as it is known.

        Args:
            sensor: The counter.
            tick: The last tick seen.
            idle_watts: The power outside of windows, in watts; None when unknown.
            now: Where an account that is still open is taken to end.
        """
        ended = self.ended if now is None else min(self.ended, now)
        if self.why:
            return Energy.unknown(self.why)
        answered = self.end is not None or self._known or now is not None
        if self.begin is None or not answered or self.begin.at >= ended:
            return Energy.unknown(NOT_IN_TIME)
        low, high = self._bracket.interval(sensor.limit_watts)
        joules, source = self._joules, sensor.source
        seconds = ended - self.started
        if not self._ticked:
            # What the counter will show of this stretch at its next tick.
            waiting = max(0.0, ended - max(self.started, tick.earliest))
            joules += (idle_watts or 0.0) * max(0.0, ended - max(self.started, tick.at))
            high += sensor.limit_watts * waiting
        if self._missed_seconds:
            joules += (idle_watts or 0.0) * self._missed_seconds
            high += sensor.limit_watts * self._missed_seconds
            source += f"; not seen in its first {self._missed_seconds:.2g} s"
        if sensor.limit_watts >= MAX_WATTS and (self._missed_seconds or not self._ticked):
            source += "; power limit unknown, so the interval is very wide"
        if not self._bracket.inside:
            low, source = 0.0, source + "; no whole tick of the counter lies in it"
        joules = min(max(joules, low), high)
        idle = None if idle_watts is None or not math.isfinite(seconds) else min(joules, idle_watts * seconds)
        return Energy(joules, low, high, "measured" if self._bracket.inside else "bounded", source, idle)
