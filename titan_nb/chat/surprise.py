"""How unlike all that a chat holds a new item is."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

__all__ = ["Surprises", "surprise"]

_WINDOW = 100
_ENOUGH = 10


def surprise(nearest_cosine: float | None) -> float:
    """Return 1 - the cosine to the nearest item of the chat, from 0 to 2; 1 in an empty chat.

    Titan's documents take this as a stand-in for the surprise of the Titans paper (Behrouz et al. 2024,
    arXiv:2501.00663), which is another thing: the gradient of a loss, for which a model is needed.
    """
    return 1.0 if nearest_cosine is None else max(0.0, 1.0 - nearest_cosine)


class Surprises:
    """The surprises of the last 100 items that were offered to a chat, kept or not, and what they expect.

    Args:
        values: Those that are known, the oldest first.
    """

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._last = deque(values, maxlen=_WINDOW)

    @property
    def threshold(self) -> float | None:
        """Mean + standard deviation of the population; None before there are 10 surprises."""
        count = len(self._last)
        if count < _ENOUGH:
            return None
        mean = math.fsum(self._last) / count
        return mean + math.sqrt(math.fsum((value - mean) ** 2 for value in self._last) / count)

    def exceeded_by(self, value: float) -> bool:
        """Return whether ``value`` is surprising: above the threshold, or before there is one."""
        threshold = self.threshold
        return threshold is None or value > threshold

    def note(self, value: float) -> None:
        """Take ``value`` into account from now on."""
        self._last.append(value)

    def copy(self) -> Surprises:
        """Return another one with the same surprises, which goes its own way."""
        return Surprises(self._last)
