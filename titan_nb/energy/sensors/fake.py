"""A simulated counter whose true energy is known, for tests and for trying titan without hardware."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

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

    It moves at its ticks, and knows what a perfect meter would have seen::

        sensor = FakeSensor(watts=70, tick_seconds=0.1, jitter_seconds=0.005)
        begin = sensor.read()
        sensor.watts = 700  # from now on
        time.sleep(1)
        end = sensor.read()
        print(end.value - begin.value, "of", sensor.true_joules(begin.at, end.at), "joules")

    Args:
        key: Device key.
        watts: Power of the device in watts, from the start.
        clock: Where the sensor takes the time from, in seconds; it must not go back.
        tick_seconds: The counter moves only every so many seconds; 0 for a counter without ticks.
        tick_phase_seconds: When it moves first, in seconds from the start.
        jitter_seconds: Each tick is early or late by up to this, less than half of ``tick_seconds``.
        seed: What the jitter is drawn from.
        duty: The part of each tick, at its end, whose mean power the counter takes for that of the whole
            tick; 1 for a counter that integrates all of it.
        limit_watts: The most that the device draws, in watts; raised when it is made to draw more.
        faults: One for each read, in order; None, or the end of the script, is a read that goes well.
        hang_seconds: How long the fault ``hang`` lasts; it needs ``blocking``.
        sleep: What a hanging read waits with.
        blocking: Whether it must be read on the sampler's thread.
        counter: Whether it counts, as opposed to a model.

    Raises:
        ValueError: If it is to hang on the thread of the user's own cell, its ticks would overtake each
            other, or ``duty`` is not above 0 and at most 1.
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
        tick_phase_seconds: float = 0.0,
        jitter_seconds: float = 0.0,
        seed: int = 0,
        duty: float = 1.0,
        limit_watts: float = 0.0,
        faults: Iterable[Fault | None] = (),
        hang_seconds: float = 10.0,
        sleep: Callable[[float], None] = time.sleep,
        blocking: bool = False,
        counter: bool = True,
    ) -> None:
        self.key = key
        self.blocking = blocking
        self.counter = counter
        self.duty = duty
        self.limit_watts = max(limit_watts, watts)
        self.reads = 0
        self.closed = False
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._jitter_seconds = jitter_seconds
        self._seed = seed
        self._faults = deque(faults)
        self._hang_seconds = hang_seconds
        self._sleep = sleep
        # Power and counter move on one after the other, so that no tick is counted with a power of later.
        self._lock = threading.Lock()
        if "hang" in self._faults and not blocking:
            raise ValueError("a sensor that hangs must be read on the sampler's thread: give blocking=True")
        if jitter_seconds and not 0 < jitter_seconds < tick_seconds / 2:
            raise ValueError(
                "jitter_seconds must be less than half of tick_seconds, so that no tick overtakes"
            )
        if not 0 < duty <= 1 or (duty < 1 and not tick_seconds):
            raise ValueError("duty must be above 0 and at most 1, and below 1 only with tick_seconds")
        self._born = clock()
        self._first_tick = self._born + tick_phase_seconds
        # From when on, joules until then, watts from then on.
        self._steps = [(self._born, 0.0, float(watts))]
        # How far a part-time counter has been added up: number of the tick, and joules.
        self._added = (-1, 0.0)

    @property
    def watts(self) -> float:
        """The power that the device draws now."""
        return self._steps[-1][2]

    @watts.setter
    def watts(self, watts: float) -> None:
        with self._lock:
            now = self._clock()
            self._steps.append((now, self._joules(now), float(watts)))
            self.limit_watts = max(self.limit_watts, watts)

    def true_joules(self, begin: float, end: float) -> float:
        """Return the energy between two times, in joules."""
        return self._joules(end) - self._joules(begin)

    def _joules(self, at: float) -> float:
        if at < self._born:
            return 0.0
        since, joules, watts = self._steps[self._step(at)]
        return joules + watts * (at - since)

    def _step(self, at: float) -> int:
        """Return the index of the power that holds from ``at`` on."""
        return bisect_right(self._steps, at, key=_since) - 1

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
        with self._lock:
            now = self._clock()
            if fault in _WRONG_VALUES:
                return Reading(now, _WRONG_VALUES[fault])
            if fault == "reset":
                return Reading(now, 0.0)
            return Reading(now, self._counted(now))

    def _counted(self, now: float) -> float:
        """Return what the counter shows, in joules."""
        if not self._tick_seconds:
            return self._joules(now)
        tick = self._last_tick(now)
        return self._joules(self._tick_at(tick)) if self.duty == 1 else self._add_up(tick)

    def _add_up(self, tick: int) -> float:
        """Add to a part-time counter what its ticks up to ``tick`` saw, and return its joules.

        Where the power is constant a tick sees it as it is, so all ticks between two steps of the power
        are added at once.
        """
        done, joules = self._added
        begin = self._tick_at(done)
        while done < tick:
            index = self._step(begin)
            watts, following = self._steps[index][2], index + 1
            constant = tick
            if following < len(self._steps):
                constant = min(tick, self._last_tick(self._steps[following][0]))
            if constant > done:
                done, end = constant, self._tick_at(constant)
                joules += watts * (end - begin)
            else:
                done, end = done + 1, self._tick_at(done + 1)
                joules += self.true_joules(end - self.duty * (end - begin), end) / self.duty
            begin = end
        self._added = (done, joules)
        return joules

    def _last_tick(self, at: float) -> int:
        """Return the number of the last tick at or before ``at``; -1 before the first."""
        tick = math.floor((at - self._first_tick) / self._tick_seconds) + 1
        while tick >= 0 and self._tick_at(tick) > at:
            tick -= 1
        return max(tick, -1)

    def _tick_at(self, tick: int) -> float:
        """Return when a tick comes; the one numbered -1 stands for the start."""
        if tick < 0:
            return self._born
        at = self._first_tick + tick * self._tick_seconds
        if self._jitter_seconds:
            at += self._jitter_seconds * _noise(self._seed, tick)
        return max(at, self._born)

    def watts_now(self) -> float:
        """Return the power that the device draws now, in watts."""
        return self.watts

    def ours(self, whole: Energy, begin: Reading, end: Reading) -> Energy:
        """Return the ``whole``: nobody else uses the device."""
        return whole

    def energy(self, begin: Reading, end: Reading, started: float, ended: float) -> Energy:
        """Return the difference of the two readings, for a sensor that stands in for a model."""
        if end.value < begin.value:
            raise SensorError("the counter went backwards")
        joules = end.value - begin.value
        return Energy(joules, joules, joules, "modelled", self.source)

    def close(self) -> None:
        """Note that the sensor was closed."""
        self.closed = True


def _since(step: tuple[float, float, float]) -> float:
    return step[0]


def _noise(seed: int, tick: int) -> float:
    """Return a number from -1 to 1 that depends on ``seed`` and ``tick`` only.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, doi:10.1145/2660193.2660195): a tick far ahead
    is drawn without those before it.
    """
    bits = 2**64 - 1
    z = (seed + 0x9E3779B97F4A7C15 * (tick + 1)) & bits
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & bits
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & bits
    return ((z ^ (z >> 31)) >> 11) * 2.0**-52 - 1.0
