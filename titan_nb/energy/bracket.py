"""From the steps of a ticking counter to an interval that holds the truth; pure arithmetic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from titan_nb.energy.steps import Step

__all__ = ["MAX_WATTS", "OVER_LIMIT", "Bracket"]

MAX_WATTS = 100_000.0
"""A bound in watts that no single device comes near, so what is above it is nonsense (a counter of 1e30).

It is also the power allowed for where a device does not tell its own limit.
"""

OVER_LIMIT = 2.0
"""For a moment a device may draw more than its power limit, which holds on average."""


class Bracket:
    """The interval of one window by one counter.

    With c(t) the counter at a tick, t0 and t1 the edges of the window::

        low  = c(last tick <= t1) - c(first tick >= t0), at least 0
        high = c(first tick >= t1) - c(last tick <= t0)

    So a step wholly inside counts for both, one across an edge for ``high`` alone, and there for no more than
    the device can draw in the part that lies inside: after a pause one step holds all of it. A counter that
    integrates all of the power has the truth between the two, whatever the load. A tick is seen between two
    looks; one that may lie on either side of an edge is taken to make the interval wider.

    A counter that looks only in a part of the time (``duty`` below 1) adds two terms. At the edges it may
    not have looked while the window's work ran: there ``high`` allows for the highest power seen in the
    window, or for the device's limit if no step lay wholly inside. In between it misses changes: a step that
    differs from the one before it by d joules may be wrong by (1 - duty) d, beyond what ticks that come early
    or late explain. These errors are independent, so they are added in quadrature, and twice their sum widens
    both ends.

    Args:
        started: Start of the window in seconds.
        duty: The part of the time in which the counter looks, above 0 and at most 1.
    """

    __slots__ = (
        "_changes",
        "_duty",
        "_edges",
        "_peak_watts",
        "_previous",
        "ended",
        "high",
        "inside",
        "low",
        "started",
    )

    def __init__(self, started: float, duty: float = 1.0) -> None:
        self.started = started
        self.ended = math.inf
        self.low = self.high = 0.0
        self.inside = 0
        self._duty = duty
        self._edges: list[tuple[float, float]] = []
        self._peak_watts = 0.0
        self._previous: float | None = None
        self._changes = 0.0

    def add(self, step: Step) -> None:
        """Take in a step; one that is wholly outside changes nothing."""
        if step.end.latest <= self.started or step.begin.earliest >= self.ended:
            return
        self.high += step.joules
        watts = step.joules / step.seconds if step.seconds > 0 else 0.0
        if step.begin.earliest < self.started or step.end.latest > self.ended:
            overlap = min(step.end.latest, self.ended) - max(step.begin.earliest, self.started)
            self._edges.append((max(0.0, overlap), step.joules))
            return
        self.low += step.joules
        self.inside += 1
        if step.seconds > 0:
            self._peak_watts = max(self._peak_watts, step.joules / (step.seconds + step.slack_seconds))
        if self._previous is not None:
            change = (
                abs(watts - self._previous) * step.seconds - max(watts, self._previous) * step.slack_seconds
            )
            self._changes += ((1 - self._duty) * max(0.0, change)) ** 2
        self._previous = watts

    def interval(self, limit_watts: float) -> tuple[float, float]:
        """Return both ends in joules.

        Args:
            limit_watts: The most that the device draws, in watts.
        """
        if self._duty >= 1:
            most = OVER_LIMIT * limit_watts
            return self.low, self.low + sum(min(joules, most * seconds) for seconds, joules in self._edges)
        watts = self._peak_watts if self.inside else limit_watts
        unseen = sum(max(0.0, watts * seconds - joules) for seconds, joules in self._edges)
        changes = 2 * math.sqrt(self._changes)
        return max(0.0, self.low - changes), self.high + unseen + changes
