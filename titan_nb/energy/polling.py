"""Looks at a counter, a thousand a second, and what they tell of its ticks."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from titan_nb.energy.ticks import TickClock
from titan_nb.errors import SensorError

__all__ = [
    "Look",
    "Regularity",
    "Tick",
    "lasting",
    "mean_watts",
    "poll",
    "regularity",
    "stamps_tick",
    "ticks",
]

_PACE_SECONDS = 1e-3

_FINE = 0.15
"""A tick is well placed when the looks around it are less than twice this part of a period apart."""

_FEWEST_TICKS = 5
_NEARLY_ALL = 0.95
_NEAR = 0.1
"""A time stamp names a tick when it is no further than this part of a period from where the tick was seen."""


class Look(NamedTuple):
    """One read of the counter.

    Attributes:
        before: When it began, in seconds on ``time.perf_counter``.
        after: When it was over.
        joules: What the counter showed.
        stamp: The driver's time stamp of the value, in seconds on the wall clock; None without one.
        wall: The wall clock at ``after``, in seconds; 0 without a time stamp.
    """

    before: float
    after: float
    joules: float
    stamp: float | None = None
    wall: float = 0.0


class Tick(NamedTuple):
    """A move of the counter, which came between two looks.

    Attributes:
        earliest: The begin of the last look that showed the old value, in seconds.
        latest: The end of the first look that showed the new one.
        joules: The new value.
    """

    earliest: float
    latest: float
    joules: float

    @property
    def at(self) -> float:
        """The best estimate of its moment, in seconds."""
        return (self.earliest + self.latest) / 2

    @property
    def half(self) -> float:
        """By how much the estimate may be wrong, in seconds."""
        return (self.latest - self.earliest) / 2


class Regularity(NamedTuple):
    """How regular ticks are.

    Attributes:
        period_seconds: From tick to tick; None where no period was found.
        jitter_seconds: Root mean square of how far a tick is from the regular grid.
    """

    period_seconds: float | None
    jitter_seconds: float | None


def poll(look: Callable[[], Look], going: Callable[[], bool]) -> Iterator[Look]:
    """Look about a thousand times a second, for as long as ``going`` says so."""
    due = time.perf_counter()
    while going():
        one = look()
        yield one
        due = max(due + _PACE_SECONDS, time.perf_counter())
        time.sleep(max(0.0, due - time.perf_counter()))


def lasting(seconds: float) -> Callable[[], bool]:
    """Return what is true for so many seconds from now."""
    deadline = time.perf_counter() + seconds
    return lambda: time.perf_counter() < deadline


def ticks(looks: Iterable[Look]) -> Iterator[Tick]:
    """Return the moves of the counter between the looks.

    Raises:
        SensorError: If the counter goes backwards.
    """
    for old, new in itertools.pairwise(looks):
        if new.joules < old.joules:
            raise SensorError("the energy counter went backwards", "calibrate again")
        if new.joules > old.joules:
            yield Tick(old.before, new.after, new.joules)


def regularity(seen: Sequence[Tick]) -> Regularity:
    """Return the period and the jitter of ticks.

    The period that a `TickClock` learns counts the periods between ticks that are well placed; the line of
    least squares through them has the period as its slope, and the jitter is what is left, less what the
    spacing of the looks explains (a third of the square of half of it).
    """
    clock = TickClock()
    for tick in seen:
        clock.observe(tick.earliest, tick.latest)
    learnt = clock.period
    well = [] if learnt is None else [tick for tick in seen if tick.half <= _FINE * learnt]
    if learnt is None or len(well) < _FEWEST_TICKS:
        return Regularity(None, None)
    steps = (round((new.at - old.at) / learnt) for old, new in itertools.pairwise(well))
    count = list(itertools.accumulate(steps, initial=0))
    line = statistics.linear_regression(count, [tick.at for tick in well])
    squares = (
        (tick.at - line.intercept - line.slope * number) ** 2
        for number, tick in zip(count, well, strict=True)
    )
    by_looks = statistics.fmean(tick.half**2 / 3 for tick in well)
    return Regularity(line.slope, max(0.0, statistics.fmean(squares) - by_looks) ** 0.5)


def mean_watts(seen: Sequence[Tick]) -> float | None:
    """Return the mean power between the first and the last tick, in watts; None with fewer than two."""
    if len(seen) < 2:
        return None
    return (seen[-1].joules - seen[0].joules) / (seen[-1].at - seen[0].at)


def stamps_tick(looks: Sequence[Look], period_seconds: float | None) -> bool:
    """Return whether the driver's time stamp is that of the counter's last tick.

    It is when, in 95 % of the cases each, it stays while the counter stays, moves when the counter moves, and
    then names a moment that is no further than a tenth of a period from where the tick was seen.
    """
    stayed, moved = [], []
    for old, new in itertools.pairwise(looks):
        if old.stamp is None or new.stamp is None or period_seconds is None:
            return False
        same = new.stamp == old.stamp
        if new.joules == old.joules:
            stayed.append(same)
        else:
            named = new.after - (new.wall - new.stamp)
            near = _NEAR * period_seconds
            moved.append(not same and old.before - near <= named <= new.after + near)
    enough = len(moved) >= _FEWEST_TICKS and len(stayed) >= _FEWEST_TICKS
    return enough and all(statistics.fmean(case) >= _NEARLY_ALL for case in (stayed, moved))
