"""The total-energy counter of one NVIDIA device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from titan_nb.energy.sensors import Reading
from titan_nb.energy.sensors.nvml_device import ENERGY_FIELD, NvmlDevice, number
from titan_nb.energy.sensors.nvml_models import sampling
from titan_nb.energy.sensors.nvml_processes import Company, Processes, charge
from titan_nb.energy.sensors.nvml_session import NvmlError
from titan_nb.errors import SensorError
from titan_nb.records import Energy

__all__ = ["NvmlCounter"]

_NO_STAMP = -1.0
_OLDEST_STAMP_SECONDS = 10.0


class NvmlCounter:
    """The energy counter of one NVIDIA device, for the whole board; ours is what `charge` says.

    A read is one NVML call; who is on the device and its power limit are asked for far less often. A limit
    is an average: for a few milliseconds a board may draw more.

    The first extra value of a reading is the moment of the counter's last tick on ``time.perf_counter``
    where `tells_ticks` is set and the driver gives a sensible one, otherwise -1. The others are a `Company`.

    Attributes:
        tick_seconds: From tick to tick by the calibration; None without one.
        tells_ticks: Whether the calibration found that the driver's time stamp moves with the ticks.

    Args:
        device: The device.
        mig: Whether only a MIG instance of the device is ours.
        note: What else the reader of the report must know.
        calibration: ``duty``, ``tick_seconds`` and ``timestamp_moves_with_ticks``, each where measured.
        clock: Where the time is from, in seconds.
        wall_clock: Where NVML's time stamps are from, in seconds.
    """

    means = "NVML energy counter"
    blocking = True
    counter = True
    refresh_seconds: float | None = None

    def __init__(
        self,
        device: NvmlDevice,
        *,
        mig: bool = False,
        note: str = "",
        calibration: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        calibration = calibration or {}
        self.key = f"gpu:{device.uuid}"
        self.name = device.name
        self.note = note
        self.mig = mig
        self.duty, how = self._duty(calibration.get("duty"), device)
        notes = "; ".join(part for part in (how, note) if part)
        self.source = f"{self.means} of {self.name}" + (f" ({notes})" if notes else "")
        tick_seconds = calibration.get("tick_seconds")
        self.tick_seconds = None if tick_seconds is None else float(tick_seconds)
        self.tells_ticks = bool(calibration.get("timestamp_moves_with_ticks", False))
        self.limit_watts = device.limit_watts()
        self._device = device
        self._clock = clock
        self._wall_clock = wall_clock
        self._processes = Processes(device, clock, wall_clock)
        self._company = Company()
        self._extra: tuple[float, ...] = (_NO_STAMP, *self._company)

    def _duty(self, calibrated: Any, device: NvmlDevice) -> tuple[float, str]:
        """Return the part of the time that is seen, and how it is known."""
        if calibrated is not None:
            return float(calibrated), f"calibrated: samples {float(calibrated):.0%} of the time"
        model = sampling(device.architecture, device.name)
        known = "by published tests" if model.known else "model not tested"
        return model.duty, f"assumed to sample {model.duty:.0%} of the time, {known}"

    def read(self) -> Reading:
        """Read the counter.

        Raises:
            SensorError: If it cannot be read.
        """
        before = self._clock()
        stamp = _NO_STAMP
        try:
            field = self._device.field(ENERGY_FIELD, main=True) if self.tells_ticks else None
            if field is None:
                millijoules = number(self._device.read("nvmlDeviceGetTotalEnergyConsumption"))
            else:
                millijoules, stamp = field[0], self._on_our_clock(field[1])
        except NvmlError as error:
            if error.kind == "NotSupported":
                raise SensorError(f"{self.name} has no energy counter") from error
            raise
        after = self._clock()
        if millijoules is None:
            raise SensorError(f"{self.name} does not tell its energy now")
        return Reading(
            (before + after) / 2, millijoules * 1e-3, self._extra_values(after, stamp), (after - before) / 2
        )

    def _extra_values(self, now: float, first: float) -> tuple[float, ...]:
        if not self.mig:
            company = self._processes.look(now)
            if company is not self._company:
                self._company = company
                self._extra = (_NO_STAMP, *company)
                self.limit_watts = self._device.limit_watts()
        return self._extra if first == _NO_STAMP else (first, *self._company)

    def _on_our_clock(self, stamp_us: int) -> float:
        """Return a time stamp of the wall clock on ``clock``, or -1 for one that makes no sense."""
        now = self._clock()
        age = self._wall_clock() - stamp_us * 1e-6
        # The wall clock may have been set between the tick and now.
        return now - age if 0 <= age <= _OLDEST_STAMP_SECONDS else _NO_STAMP

    def watts_now(self) -> float | None:
        """Return the power drawn now in watts, or None where the driver does not tell."""
        return self._device.watts()

    def ours(self, whole: Energy, begin: Reading, end: Reading) -> Energy:
        """Return what of the ``whole`` device's energy is charged to this process; see `charge`."""
        return charge(
            whole,
            Company(*begin.extra[1:]),
            Company(*end.extra[1:]),
            seconds=end.at - begin.at,
            limit_watts=self.limit_watts,
            mig=self.mig,
        )

    def close(self) -> None:
        """Give NVML back when this was its last device."""
        self._device.close()
