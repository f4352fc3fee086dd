"""When a counter ticks: period, phase and jitter, learnt from looks at it."""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Expected", "TickClock"]

_FINE = 0.3
"""A tick is well seen when the looks around it leave less than this part of a period open."""

_LEARNT = 3
"""So many well-seen periods make a period known."""

_LOST = 0.4
"""A phase that may be off by this part of a period is lost."""

_JITTER_WEIGHT = 0.1
"""Weight of the newest residual in the running jitter."""

_DRIFT = 1e-4
"""Part of the elapsed time by which a device's clock may go wrong meanwhile."""

_LONGEST_BASE = 1000
"""Periods after which the base of the mean is halved, so that a slow change of the period is followed."""


class Expected(NamedTuple):
    """A tick to come.

    Attributes:
        at: When it is expected, in seconds.
        sigma: How far off that may be, in seconds.
    """

    at: float
    sigma: float


class TickClock:
    """The ticks of one counter.

    The period is the mean over all ticks since the first one from which they could be counted. A tick that
    comes a whole number of periods after the last one fits; where several in a row do not, the learning
    starts again.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._half_width = 0.0
        self._period: float | None = None
        self._period_error = 0.0
        self._fits = 0
        self._misfits = 0
        self._jitter = 0.0
        # Where the base of the mean begins, how well that is known, and how many periods ago it was.
        self._first = 0.0
        self._first_half_width = 0.0
        self._count = 0

    @property
    def last(self) -> float | None:
        """The last tick that was seen well; None before the first."""
        return self._last

    @property
    def period(self) -> float | None:
        """Seconds from tick to tick; None until a few have been seen well."""
        return self._period if self._fits >= _LEARNT else None

    @property
    def slack(self) -> float:
        """By how much the time between two ticks may differ from whole periods, in seconds."""
        return 4 * self._jitter + 2 * self._half_width

    def observe(self, earliest: float, latest: float) -> None:
        """Take in a tick that came between two looks."""
        at, half = (earliest + latest) / 2, (latest - earliest) / 2
        last, period = self._last, self._period
        if last is None:
            self._move(at, half)
            return
        gap, open_seconds = at - last, half + self._half_width
        if period is None or gap < 0.7 * period:
            # Without a period, or with one that was too long because ticks had been missed.
            if open_seconds <= _FINE * gap:
                self._period, self._period_error = gap, open_seconds
                self._first, self._first_half_width, self._count, self._fits = last, self._half_width, 1, 1
                self._move(at, half)
            elif period is None:
                self._move(at, half)
            return
        if half > _FINE / 2 * period:
            return
        periods = round(gap / period)
        residual = abs(gap - periods * period)
        if self._drift(at) > _LOST * period:
            self._rebase(at, half)  # It cannot be told how many periods it was.
        elif residual > max(_FINE * period, half + self._sigma(at)):
            self._rebase(at, half)
            self._misfits += 1
            if self._misfits >= _LEARNT:
                self._period, self._fits, self._misfits = None, 0, 0
        else:
            self._fits, self._misfits, self._count = self._fits + 1, 0, self._count + periods
            self._jitter += _JITTER_WEIGHT * (max(0.0, residual - open_seconds / 4) - self._jitter)
            self._refine(at, half, period, periods)

    def _refine(self, at: float, half: float, period: float, periods: int) -> None:
        if self._count > periods:
            self._period = (at - self._first) / self._count
            self._period_error = (half + self._first_half_width + 2 * self._jitter) / self._count
        if self._count > _LONGEST_BASE:
            self._count //= 2
            self._first = at - self._count * (self._period or period)
        self._move(at, half)

    def _rebase(self, at: float, half: float) -> None:
        """Count from this tick on; the period stays."""
        self._first, self._first_half_width, self._count = at, half, 0
        self._move(at, half)

    def _move(self, at: float, half: float) -> None:
        self._last, self._half_width = at, half

    def locate(self, earliest: float, latest: float) -> float:
        """Return the best estimate of the last tick between two moments; ``earliest`` may be ``-inf``."""
        expected = None
        if self.period is not None and self._last is not None:
            expected = self._last + math.floor((latest - self._last) / self.period) * self.period
            if self._sigma(latest) > _FINE * self.period:
                expected = None
            elif earliest - expected > expected + self.period - latest:
                expected = latest  # a tick that came a little early is nearer than the one before it
        if earliest == -math.inf:
            return latest - (self.period or 0.0) / 2 if expected is None else expected
        if self.period is not None:
            earliest = max(earliest, latest - self.period)  # after a pause it is the last of many
        middle = (earliest + latest) / 2
        if expected is None or latest - earliest <= _FINE * (self.period or 0.0):
            return middle
        return min(max(expected, earliest), latest)

    def expect(self, after: float) -> Expected | None:
        """Return the first tick expected after a moment; None while the period or the phase is unknown."""
        period, last = self.period, self._last
        if period is None or last is None:
            return None
        at = last + max(1, math.ceil((after - last) / period)) * period
        sigma = self._sigma(at)
        return None if sigma > _LOST * period else Expected(at, sigma)

    def known_for(self, part: float) -> float:
        """Return for how many seconds after the last tick the phase is known to ``part`` of a period."""
        period = self.period
        if period is None:
            return 0.0
        spare = part * period - self._half_width - 3 * self._jitter
        return max(0.0, spare / (self._period_error / period + _DRIFT))

    def _sigma(self, at: float) -> float:
        """Return by how much a tick around ``at`` may differ from what is expected, in seconds."""
        return self._half_width + 3 * self._jitter + self._drift(at)

    def _drift(self, at: float) -> float:
        elapsed = 0.0 if self._last is None else abs(at - self._last)
        return elapsed * (self._period_error / (self._period or math.inf) + _DRIFT)
