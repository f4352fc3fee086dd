"""A counter made of power readings, for a device that tells its power alone."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable

from titan_nb.energy.bracket import MAX_WATTS
from titan_nb.energy.cpu_share import charge_whole
from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.records import Energy

__all__ = ["REFRESH_SECONDS", "PowerIntegral"]

REFRESH_SECONDS = 0.1
"""As often as zeus itself reads the rails of a Jetson."""

_HOLE_SECONDS = 10.0
"""Twice as long as an idle device is left alone."""


class PowerIntegral:
    """Power readings joined by straight lines; the area below them is the energy.

    Between two readings the power may have changed at any moment, so half of what it changed by, times the
    time between them, widens the interval on each side. What happened while nobody read it is not known.

    The value of a reading is joules. Its extra values are that doubt in joules, and how often the device was
    not read for more than ten seconds, each since the first reading.

    Args:
        key: Device key.
        name: The device for people.
        source: Whose power it is, for the report.
        watts: Reads the power.
        limit_watts: The most that the device draws.
        keep: What must live as long as the sensor.
    """

    blocking = True
    counter = True
    refresh_seconds: float | None = REFRESH_SECONDS
    duty = 1.0

    def __init__(
        self,
        key: str,
        name: str,
        source: str,
        watts: Callable[[], float],
        *,
        limit_watts: float,
        keep: object = None,
    ) -> None:
        self.key = key
        self.name = name
        self.source = f"{source}, summed up"
        self.limit_watts = limit_watts
        self._read_watts = watts
        self._keep = keep
        self._last: tuple[float, float] | None = None
        self._joules = 0.0
        self._doubt_joules = 0.0
        self._holes = 0

    def read(self) -> Reading:
        """Read the power, and add what was used since the last reading.

        Raises:
            SensorError: If it cannot be read.
        """
        before = time.perf_counter()
        try:
            watts = self._read_watts()
        except Exception as error:
            raise SensorError(f"{self.name} cannot be read: {error}") from error
        if not 0 <= watts <= MAX_WATTS:
            raise SensorError(f"{self.name} says that it draws {watts:g} W, which cannot be")
        after = time.perf_counter()
        at = (before + after) / 2
        if self._last is not None:
            self._add(watts, *self._last, at)
        self._last = at, watts
        extra = self._doubt_joules, float(self._holes)
        return Reading(at, self._joules, extra, (after - before) / 2)

    def _add(self, watts: float, last_at: float, last_watts: float, at: float) -> None:
        seconds = at - last_at
        if seconds > _HOLE_SECONDS:
            self._holes += 1
            return
        self._joules += (watts + last_watts) / 2 * seconds
        self._doubt_joules += abs(watts - last_watts) / 2 * seconds

    def watts_now(self) -> float | None:
        """Return the power of the last reading, in watts."""
        return None if self._last is None else self._last[1]

    def ours(self, whole: Energy, begin: Reading, end: Reading) -> Energy:
        """Return the whole device's energy, with the doubt of the sum in its upper end."""
        if begin.extra[1] != end.extra[1]:
            return Energy.unknown("the power was not read for a while during this time")
        charged = charge_whole(whole)
        if charged.high is None:
            return charged
        return dataclasses.replace(charged, high=charged.high + end.extra[0] - begin.extra[0])

    def close(self) -> None:
        """Let go of what the device needs."""
        self._keep = None
