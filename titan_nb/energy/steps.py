"""From the readings of a counter to its steps: how much it moved, and between which two of its ticks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from titan_nb.energy.bracket import MAX_WATTS
from titan_nb.energy.sensors import Reading
from titan_nb.energy.ticks import TickClock
from titan_nb.errors import SensorError

__all__ = ["Step", "Steps", "Tick"]

_GRACE_SECONDS = 1.0
"""A counter that has not been looked at for a moment may show the energy of a whole tick at once."""

_EARLY = 0.1
"""By this part of a period a tick may come late and still be the next one."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment at which the counter moved, as far as it is known; seconds on the meter's clock.

    Attributes:
        earliest: The last look that still showed the old value.
        latest: The first look that showed the new one.
        at: Best estimate.
    """

    earliest: float
    latest: float
    at: float


@dataclass(frozen=True, slots=True)
class Step:
    """One increment of a counter, or several that were seen at once.

    Attributes:
        begin: The tick before it, up to which the energy had been counted already.
        end: The tick at which it was counted.
        joules: The increment.
        seconds: Its length: a whole number of periods where the period is known; 0 where nothing is known.
        slack_seconds: By how much that may be wrong, as ticks come early and late.
    """

    begin: Tick
    end: Tick
    joules: float
    seconds: float
    slack_seconds: float = 0.0


class Steps:
    """Makes steps of the readings of one counter.

    Args:
        clock: What is known of the counter's ticks; it learns from each one.
    """

    def __init__(self, clock: TickClock) -> None:
        self._clock = clock
        self._last: Reading | None = None
        self._tick = Tick(-math.inf, math.inf, math.nan)

    @property
    def last(self) -> Reading | None:
        """The last reading; None before the first."""
        return self._last

    @property
    def tick(self) -> Tick:
        """The last tick, as far as it is known; before the second one that is next to nothing."""
        return self._tick

    def add(self, reading: Reading) -> Step | None:
        """Take in a reading; return the step that it shows, or None if the counter has not moved.

        Raises:
            SensorError: If the counter went backwards, or further than any device can draw; the reading is
                then the first of a new count.
        """
        last = self._last
        if last is not None and reading.at <= last.at:
            # The same moment as far as the clock can tell: nothing can be said about when it moved.
            if reading.value == last.value:
                return None
            reading = Reading(
                math.nextafter(last.at, math.inf), reading.value, reading.extra, last.slack_seconds
            )
        self._last = reading
        if last is None:
            latest = reading.at + reading.slack_seconds
            self._tick = Tick(-math.inf, latest, self._clock.locate(-math.inf, latest))
            return None
        joules = reading.value - last.value
        if joules == 0:
            return None
        if joules < 0 or joules > MAX_WATTS * (reading.at - last.at + _GRACE_SECONDS):
            self._tick = Tick(-math.inf, reading.at + reading.slack_seconds, reading.at)
            raise SensorError("the counter went backwards" if joules < 0 else _JUMPED)
        earliest, latest = last.at - last.slack_seconds, reading.at + reading.slack_seconds
        self._clock.observe(earliest, latest)
        at = max(self._clock.locate(earliest, latest), self._tick.at if self._tick.at < latest else earliest)
        before, self._tick = self._tick, Tick(earliest, latest, at)
        period = self._clock.period
        if period is not None and before.latest - before.earliest > period:
            # It came before the first reading, or in a pause: whole periods before this one tell it better.
            periods = max(1, math.ceil((at - before.latest) / period - _EARLY))
            known = max(before.earliest, min(before.latest, at - periods * period))
            before = Tick(before.earliest, before.latest, known)
        estimate = max(0.0, at - before.at)
        seconds = estimate if period is None else max(1, round(estimate / period)) * period
        return Step(before, self._tick, joules, seconds, self._clock.slack + abs(seconds - estimate))


_JUMPED = "the counter jumped by more than any device can draw"
