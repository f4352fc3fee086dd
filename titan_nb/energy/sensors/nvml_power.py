"""The power of an NVIDIA device that has no energy counter, added up to one."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any, NamedTuple

from titan_nb.energy.sensors import Reading
from titan_nb.energy.sensors.nvml_counter import NvmlCounter
from titan_nb.energy.sensors.nvml_device import POWER_INSTANT_FIELD, NvmlDevice, number, union
from titan_nb.energy.sensors.nvml_models import averages_a_second, sampling
from titan_nb.energy.sensors.nvml_session import NvmlError
from titan_nb.errors import SensorError
from titan_nb.records import Energy

__all__ = ["NvmlPower", "PowerRange"]

_REFRESH_SECONDS = 0.05
_UNSEEN_SECONDS = 1.0
"""Between two values further apart than this, anything up to the power limit may have been drawn."""

_CLOCK_STEP_SECONDS = 0.05
"""The wall clock was set, or the machine slept, when it moved so much against ours between two reads."""

_TOTAL_POWER_SAMPLES = 0
"""NVML_TOTAL_POWER_SAMPLES, in milliwatts."""


class _Span(NamedTuple):
    began: float
    ended: float
    low: float
    high: float


class PowerRange:
    """The lowest and highest power over time; when it is full, neighbours are merged.

    Args:
        size: How many stretches it keeps at most.
    """

    def __init__(self, size: int = 1024) -> None:
        self._spans: list[_Span] = []
        self._size = size

    def add(self, at: float, watts: float) -> None:
        """Take in the power at a moment, in seconds and watts."""
        self._spans.append(_Span(at, at, watts, watts))
        if len(self._spans) >= self._size:
            pairs = zip(self._spans[::2], self._spans[1::2], strict=False)
            merged = [
                _Span(one.began, two.ended, min(one.low, two.low), max(one.high, two.high))
                for one, two in pairs
            ]
            self._spans = merged + self._spans[2 * len(merged) :]

    def spread(self, began: float, ended: float) -> float:
        """Return highest less lowest power between two moments, in watts; a little more time may count."""
        seen = [span for span in self._spans if span.ended >= began and span.began <= ended]
        if not seen:
            return 0.0
        return max(span.high for span in seen) - min(span.low for span in seen)


class NvmlPower(NvmlCounter):
    """A counter made of power values: the trapezoid between each two of them is added up.

    The values come from ``nvmlDeviceGetSamples``, which the driver stamps with the time, where it is
    supported; otherwise one is taken at each read. Between two values the power is taken to have stayed
    between them, so half their difference times the time is in doubt. The driver's value is a mean over
    some time before it, which shifts energy across the edges of a window: that time multiplied by the
    spread of the power in the window is in doubt as well.

    The first extra value of a reading is the doubt so far in joules; the others are a `Company`.
    """

    means = "NVML power integrated"
    refresh_seconds: float | None = _REFRESH_SECONDS

    def __init__(self, device: NvmlDevice, **options: Any) -> None:
        self._samples = device.ask("nvmlDeviceGetSamples", _TOTAL_POWER_SAMPLES, 0) is not None
        self._window_seconds = _window_seconds(device, samples=self._samples)
        super().__init__(device, **options)
        self.tells_ticks = False
        self._range = PowerRange()
        self._lock = threading.Lock()
        self._joules = 0.0
        self._doubt = 0.0
        self._last: tuple[float, float] | None = None
        self._last_stamp_us = 0
        self._offset: float | None = None

    def _duty(self, calibrated: Any, device: NvmlDevice) -> tuple[float, str]:
        if calibrated is None and self._window_seconds >= 1:
            return 1.0, "each value a mean of one second"
        duty, how = super()._duty(calibrated, device)
        if calibrated is not None or self._samples:
            return duty, how
        # What is looked at less often than the driver measures is seen less.
        duty = min(duty, sampling(device.architecture, device.name).window_seconds / _REFRESH_SECONDS)
        return duty, f"assumed to sample {duty:.0%} of the time"

    def read(self) -> Reading:
        """Take the power values since the last read, and return the energy so far.

        Raises:
            SensorError: If there is none.
        """
        before = self._clock()
        values = self._stamped() if self._samples else None
        if values is None:
            watts = self._value()
            after = self._clock()
            values = [((before + after) / 2, watts)]
        else:
            after = self._clock()
        # Held for arithmetic only: a read that hangs must not keep the next one from going on.
        with self._lock:
            for at, watts in values:
                self._add(at, watts)
            joules, doubt = self._joules, self._doubt
        return Reading((before + after) / 2, joules, self._extra_values(after, doubt), (after - before) / 2)

    def _value(self) -> float:
        if self._device.instant:
            field = self._device.field(POWER_INSTANT_FIELD, main=True)
            milliwatts = None if field is None else field[0]
        else:
            milliwatts = number(self._device.read("nvmlDeviceGetPowerUsage"))
        if milliwatts is None:
            raise SensorError(f"{self.name} does not tell its power now")
        return milliwatts * 1e-3

    def _stamped(self) -> list[tuple[float, float]] | None:
        """Return the driver's samples since the last read on our clock, or None when they cannot be used."""
        now, wall = self._clock(), self._wall_clock()
        offset = now - wall
        stepped = self._offset is not None and abs(offset - self._offset) > _CLOCK_STEP_SECONDS
        first = self._offset is None
        self._offset = offset
        if stepped or first:
            self._last_stamp_us = int(wall * 1e6)
            return None
        try:
            kind, samples = self._device.read(
                "nvmlDeviceGetSamples", _TOTAL_POWER_SAMPLES, self._last_stamp_us
            )
        except NvmlError as error:
            if error.kind == "NotFound":
                return []
            raise
        found = []
        for sample in sorted(samples, key=lambda sample: int(sample.timeStamp)):
            milliwatts = number(union(sample.sampleValue, kind))
            at = sample.timeStamp * 1e-6 + offset
            # One from before the wall clock was put back seems to be from a time to come.
            if milliwatts is None or sample.timeStamp <= self._last_stamp_us or at > self._clock():
                continue
            self._last_stamp_us = int(sample.timeStamp)
            found.append((at, milliwatts * 1e-3))
        return found

    def _add(self, at: float, watts: float) -> None:
        if self._last is not None:
            last_at, last_watts = self._last
            seconds = at - last_at
            if seconds <= 0:
                return
            self._joules += seconds * (watts + last_watts) / 2
            unseen = seconds > _UNSEEN_SECONDS
            self._doubt += seconds * (self.limit_watts if unseen else abs(watts - last_watts) / 2)
        self._last = at, watts
        self._range.add(at, watts)

    def ours(self, whole: Energy, begin: Reading, end: Reading) -> Energy:
        """Return what is ours of the ``whole``, whose interval is widened by the doubt; see `charge`."""
        if whole.joules is None or whole.low is None or whole.high is None:
            return whole
        window = self._window_seconds
        with self._lock:
            spread = self._range.spread(begin.at - window, end.at + window)
        doubt = end.extra[0] - begin.extra[0] + window * spread
        whole = dataclasses.replace(whole, low=max(0.0, whole.low - doubt), high=whole.high + doubt)
        return super().ours(whole, begin, end)


def _window_seconds(device: NvmlDevice, *, samples: bool) -> float:
    """Return the time before it that a value may stand for, in seconds."""
    instant = device.instant and not samples
    if not instant and averages_a_second(device.architecture, device.name):
        return 1.0
    return sampling(device.architecture, device.name).period_seconds
