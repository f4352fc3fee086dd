"""When to look at a counter next: often where a tick is wanted, seldom where none is."""

from __future__ import annotations

from titan_nb.energy.steps import Step
from titan_nb.energy.ticks import TickClock

__all__ = ["Pace"]

SEEK_SECONDS = 0.004
"""Between two looks for a tick of which nothing is known yet."""

MIN_SECONDS = 0.001
"""No two looks are closer than this."""

_TIRED_LOOKS = 50
"""After so many looks in vain, each wait is longer than the one before."""

CRUISE_SECONDS = 0.05
"""Between two looks in the middle of a window, at least."""

_CRUISE_MOST_SECONDS = 1.0
_CRUISE_PART = 1 / 500
"""The longest wait within a window, as a part of its length so far."""

_IDLE_SECONDS = 2.0
_LONG_IDLE_SECONDS = 5.0
_LONG_IDLE_AFTER_SECONDS = 30.0
_ASLEEP_AFTER_SECONDS = 120.0
_ASLEEP_SECONDS = 3600.0
"""After two minutes without a window the device may sleep; the next window reads what it used till then."""

_PHASE_SECONDS = 4.0
"""A tick is looked for from both sides at least this often, so that the phase is not lost."""

_PHASE_PART = 0.2
"""And before the phase is off by this part of a period."""

_LEARNING_LOOKS = 300
"""After so many looks for a period in vain, since a window began or ended, it is looked for no more."""

_FINE_HITS = 6
"""A counter that moved at so many looks in a row ticks too fast to be followed, and needs not be."""

_PATIENCE_SECONDS = 1.0
_PATIENCE_TICKS = 5


class Pace:
    """How often one counter is looked at.

    Args:
        clock: What is known of its ticks.
    """

    def __init__(self, clock: TickClock) -> None:
        self._clock = clock
        self._vain = 0
        self._hits = 0
        self._learning = 0
        self._looked = 0.0
        self._idle_since: float | None = None

    @property
    def patience(self) -> float:
        """How long the tick after a window is waited for, in seconds."""
        return max(_PATIENCE_SECONDS, _PATIENCE_TICKS * (self._clock.period or 0.0))

    def reset(self) -> None:
        """Be eager again: a window has begun or ended."""
        self._vain = self._learning = 0

    def looked(self, now: float, step: Step | None) -> None:
        """Take note of a look, and of what it showed."""
        since, self._looked = now - self._looked, now
        if step is None:
            self._vain += 1
            if since >= 0.8 * SEEK_SECONDS:
                self._hits = 0
            return
        self._vain = 0
        if since <= 1.5 * SEEK_SECONDS:
            self._hits += 1

    def delay(self, now: float, *, wanted: bool, open_since: float | None, at_most: float | None) -> float:
        """Return after how many seconds to look again.

        Args:
            now: The time in seconds.
            wanted: Whether the next tick is waited for.
            open_since: Start of the oldest open window; None when there is none.
            at_most: The longest wait while a window is open, in seconds; None for no such limit.
        """
        active = wanted or open_since is not None
        self._idle_since = None if active else (now if self._idle_since is None else self._idle_since)
        if self._hits >= _FINE_HITS and wanted:
            return MIN_SECONDS
        seeks = wanted or self._learns() or (self._loses_phase(now) and not self._asleep(now))
        if seeks and self._vain < 4 * _TIRED_LOOKS:
            delay = self._to_next_tick(now)
        elif active:
            delay = self._after_a_tick(now, self._cruise(now - (now if open_since is None else open_since)))
        else:
            idle_for = now - (now if self._idle_since is None else self._idle_since)
            delay = _IDLE_SECONDS if idle_for < _LONG_IDLE_AFTER_SECONDS else _LONG_IDLE_SECONDS
            if self._asleep(now):
                # One that wraps is read before it does.
                delay = _ASLEEP_SECONDS if at_most is None else max(at_most, _LONG_IDLE_SECONDS)
            elif self._clock.last is not None and self._clock.period is not None:
                due = self._clock.last + min(_PHASE_SECONDS, self._clock.known_for(_PHASE_PART))
                delay = min(delay, max(0.0, due - now))
        if at_most is not None and active:
            delay = min(delay, at_most)
        return max(MIN_SECONDS, delay)

    def _asleep(self, now: float) -> bool:
        return self._idle_since is not None and now - self._idle_since > _ASLEEP_AFTER_SECONDS

    def _learns(self) -> bool:
        if self._clock.period is not None or self._hits >= _FINE_HITS or self._learning >= _LEARNING_LOOKS:
            return False
        self._learning += 1
        return True

    def _loses_phase(self, now: float) -> bool:
        last = self._clock.last
        if last is None or self._clock.period is None:
            return False
        return now - last >= min(_PHASE_SECONDS, self._clock.known_for(_PHASE_PART))

    def _to_next_tick(self, now: float) -> float:
        """Look shortly before the next tick, and then until it has come."""
        period = self._clock.period
        expected = self._clock.expect(self._looked - 0.25 * (period or 0.0))
        if expected is None:
            tired = max(0, self._vain - _TIRED_LOOKS)
            return min(SEEK_SECONDS * 1.1**tired, 0.1)
        sigma = max(expected.sigma, MIN_SECONDS)
        before = expected.at - sigma - now
        if before > 0:
            return before
        return max(MIN_SECONDS, sigma / 2)

    def _cruise(self, elapsed: float) -> float:
        most = min(_CRUISE_MOST_SECONDS, max(CRUISE_SECONDS, elapsed * _CRUISE_PART))
        return max(most, self._clock.period or 0.0)

    def _after_a_tick(self, now: float, wait: float) -> float:
        """Return about ``wait`` seconds, so that the look falls right behind a tick."""
        period = self._clock.period
        expected = None if period is None else self._clock.expect(now + wait - 0.6 * period)
        if expected is None:
            return wait
        return expected.at + max(expected.sigma, MIN_SECONDS) - now
