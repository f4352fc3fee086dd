"""The course of one counter over time, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["MAX_POINTS", "Trace", "TraceRing"]

MAX_POINTS = 4096


class Trace(NamedTuple):
    """The power of one device over time.

    Attributes:
        seconds: Moments on ``time.perf_counter``, ascending, shape (n + 1,).
        watts: Mean power between them in watts, shape (n,).
    """

    seconds: NDArray[np.float64]
    watts: NDArray[np.float64]


class TraceRing:
    """The last ticks of a counter; older ones are thinned, so that it holds at most `MAX_POINTS`.

    When it is full, every other point of its older half goes. As points hold cumulated joules, the mean
    power between any two that are left stays exact. What comes before `prepare` is dropped.
    """

    def __init__(self) -> None:
        self._points: Any = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def prepare(self) -> None:
        """Make room for the points; it may have to import NumPy, which takes a tenth of a second."""
        if self._points is None:
            import numpy as np

            self._points = np.empty((2, MAX_POINTS))

    def add(self, at: float, joules: float) -> None:
        """Append a point.

        Args:
            at: When, in seconds; later than the last one, or it is left out.
            joules: What the counter had counted by then.
        """
        points, count = self._points, self._count
        if points is None or (count and at <= points[0, count - 1]):
            return
        if count == MAX_POINTS:
            half = MAX_POINTS // 2
            kept = half // 2
            points[:, :kept] = points[:, :half:2]
            points[:, kept : kept + count - half] = points[:, half:count].copy()
            count -= half - kept
        points[:, count] = at, joules
        self._count = count + 1

    def between(self, started: float, ended: float) -> Trace:
        """Return the part that touches a stretch of time."""
        import numpy as np

        if self._points is None:
            return Trace(np.empty(0), np.empty(0))
        at, joules = self._points[:, : self._count].copy()
        first = max(0, int(np.searchsorted(at, started, side="right")) - 1)
        last = int(np.searchsorted(at, ended, side="left")) + 1
        at, joules = at[first:last], joules[first:last]
        return Trace(at, np.diff(joules) / np.diff(at))
