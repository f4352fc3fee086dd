"""A simulated counter whose true energy is known, for tests and for trying titan without hardware."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

from titan_nb.energy.bracket import bracket
from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.records import Energy

__all__ = ["FakeSensor", "Fault"]

Fault = Literal[
    "raise", "base exception", "memory error", "hang", "nan", "inf", "negative", "wrong type", "huge", "reset"
]
"""What can go wrong with one read of a `FakeSensor`."""

_WRONG_VALUES: dict[str, Any] = {
    "nan": math.nan,
    "inf": math.inf,
    "negative": -1.0,
    "wrong type": "1",
    "huge": 1e30,
}


class _SimulatedFault(BaseException):
    """Raised for the fault ``base exception``."""


class FakeSensor:
    """A counter of a device that draws exactly ``watts``, and fails when told to.

    ``sensor.watts = 700`` changes the power from now on; ``sensor.true_joules(a, b)`` is the energy that a
    perfect meter would have seen between two times.

    Args:
        key: Device key.
        watts: Power of the device in watts, from the start.
        clock: Where the sensor takes the time from, in seconds.
        tick_seconds: The counter moves only every so many seconds; 0 for a counter without ticks.
        faults: One for each read, in order; None, or the end of the script, is a read that goes well.
        hang_seconds: How long the fault ``hang`` lasts; it needs ``blocking``.
        sleep: What a hanging read waits with.
        blocking: Whether it must be read on the sampler's thread.
        counter: Whether it counts, as opposed to a model.

    Raises:
        ValueError: If it is to hang on the thread of the user's own cell.
    """

    name = "simulated device"
    source = "simulated counter"
    refresh_seconds: float | None = None

    def __init__(
        self,
        key: str = "gpu:simulated",
        watts: float = 100.0,
        *,
        clock: Callable[[], float] = time.perf_counter,
        tick_seconds: float = 0.0,
        faults: Iterable[Fault | None] = (),
        hang_seconds: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
        blocking: bool = False,
        counter: bool = True,
    ) -> None:
        self.key = key
        self.blocking = blocking
        self.counter = counter
        self.reads = 0
        self.closed = False
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._faults = deque(faults)
        self._hang_seconds = hang_seconds
        self._sleep = sleep
        self._lock = threading.Lock()
        if "hang" in self._faults and not blocking:
            raise ValueError("a sensor that hangs must be read on the sampler's thread: give blocking=True")
        self._born = clock()
        # From when on, joules until then, watts from then on.
        self._steps = [(self._born, 0.0, float(watts))]

    @property
    def watts(self) -> float:
        """The power that the device draws now."""
        return self._steps[-1][2]

    @watts.setter
    def watts(self, watts: float) -> None:
        now = self._clock()
        self._steps.append((now, self._joules(now), float(watts)))

    def true_joules(self, begin: float, end: float) -> float:
        """Return the energy between two times, in joules."""
        return self._joules(end) - self._joules(begin)

    def _joules(self, at: float) -> float:
        for since, joules, watts in reversed(self._steps):
            if at >= since:
                return joules + watts * (at - since)
        return 0.0

    def read(self) -> Reading:
        """Read the counter, or fail as the script says."""
        with self._lock:
            fault = self._faults.popleft() if self._faults else None
            self.reads += 1
        if fault == "raise":
            raise SensorError("a simulated fault")
        if fault == "base exception":
            raise _SimulatedFault
        if fault == "memory error":
            raise MemoryError
        if fault == "hang":
            self._sleep(self._hang_seconds)
        now = self._clock()
        if fault in _WRONG_VALUES:
            return Reading(now, _WRONG_VALUES[fault])
        if fault == "reset":
            return Reading(now, 0.0)
        return Reading(now, self._joules(self._last_tick(now)))

    def _last_tick(self, now: float) -> float:
        if not self._tick_seconds:
            return now
        return self._born + math.floor((now - self._born) / self._tick_seconds) * self._tick_seconds

    def energy(self, begin: Reading, end: Reading, started: float, ended: float) -> Energy:
        """Return the energy of the window; see `titan_nb.energy.bracket`."""
        limit = max(watts for _, _, watts in self._steps)
        return bracket(
            begin,
            end,
            started,
            ended,
            limit_watts=limit,
            tick_seconds=self._tick_seconds,
            source=self.source,
        )

    def close(self) -> None:
        """Note that the sensor was closed."""
        self.closed = True
