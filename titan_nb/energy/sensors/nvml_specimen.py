"""The NVIDIA GPU that is calibrated."""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Mapping
from typing import Any

from titan_nb.energy.polling import Look
from titan_nb.energy.sensors.nvml import nvml_sensors
from titan_nb.energy.sensors.nvml_device import ENERGY_FIELD, POWER_INSTANT_FIELD, NvmlDevice, number
from titan_nb.energy.sensors.nvml_session import NvmlError, NvmlSession, text
from titan_nb.errors import SensorError

__all__ = ["Specimen"]

_ABSENT = frozenset({"NotSupported", "FunctionNotFound", "FunctionNotFoundError", "AttributeError"})
_CALL_PAUSE_SECONDS = 1e-3
_POWER_SAMPLES = 0
"""NVML_TOTAL_POWER_SAMPLES."""


class Specimen:
    """The NVIDIA GPU that is calibrated, held until `close`.

    Attributes:
        name: Product name.
        uuid: UUID.
        driver: Version of the driver.

    Args:
        position: Which one, among the GPUs that CUDA shows to this process.

    Raises:
        SensorError: If there is none, it has no energy counter, or it is divided into MIG instances.
    """

    def __init__(self, position: int = 0) -> None:
        sensors = nvml_sensors()
        try:
            if position >= len(sensors):
                raise SensorError(f"CUDA shows no GPU {position}", "see CUDA_VISIBLE_DEVICES")
            self.uuid = sensors[position].key.removeprefix("gpu:")
            import pynvml

            self._session = NvmlSession.join(pynvml)
        finally:
            for sensor in sensors:
                sensor.close()
        try:
            self._device = self._find(pynvml)
            self.name = self._device.name
            self.driver = text(pynvml.nvmlSystemGetDriverVersion())
            if self._device.mig:
                raise SensorError(f"{self.name} is divided into MIG instances", "calibrate it undivided")
            self.look()
        except BaseException:
            self.close()
            raise

    def _find(self, nvml: Any) -> NvmlDevice:
        devices = (NvmlDevice(self._session, index) for index in range(int(nvml.nvmlDeviceGetCount())))
        for device in devices:
            if device.uuid == self.uuid:
                return device
        raise SensorError(f"the GPU {self.uuid} is not there any more")

    def look(self) -> Look:
        """Read the counter by the plain call.

        Raises:
            SensorError: If it cannot be read.
        """
        before = time.perf_counter()
        millijoules = number(self._device.call("nvmlDeviceGetTotalEnergyConsumption"))
        after = time.perf_counter()
        if millijoules is None:
            raise SensorError(f"{self.name} does not tell its energy now")
        return Look(before, after, millijoules * 1e-3)

    def stamped_look(self) -> Look | None:
        """Read the counter by its field, which has a time stamp; None where the driver has no such field."""
        before = time.perf_counter()
        field = self._device.field(ENERGY_FIELD)
        after, wall = time.perf_counter(), time.time()
        return None if field is None else Look(before, after, field[0] * 1e-3, field[1] * 1e-6, wall)

    @property
    def instant(self) -> bool:
        """Whether `watts` is the instantaneous power, and not the mean of a longer time."""
        return self._device.instant

    def watts(self) -> float | None:
        """Return the power now in watts, or None where the driver does not tell."""
        return self._device.watts()

    def processes(self) -> frozenset[int]:
        """Return the driver's ids of the processes that compute on it; empty where unknown."""
        found = self._device.ask("nvmlDeviceGetComputeRunningProcesses")
        return frozenset(int(process.pid) for process in found or ())

    @property
    def own_process(self) -> str:
        """How this process is seen: *own*, *other* (by another id, as in a container), or *none*."""
        seen = self.processes()
        return "own" if os.getpid() in seen else "other" if seen else "none"

    def latencies(self, repeat: int) -> Mapping[str, Mapping[str, float]]:
        """Return the median and the 99th percentile of each call that the driver has, in seconds.

        Args:
            repeat: How often each one is called, a millisecond apart.
        """
        calls: dict[str, tuple[Any, ...]] = {
            "nvmlDeviceGetTotalEnergyConsumption": (),
            "nvmlDeviceGetFieldValues(TOTAL_ENERGY_CONSUMPTION)": ([ENERGY_FIELD],),
            "nvmlDeviceGetFieldValues(POWER_INSTANT)": ([POWER_INSTANT_FIELD],),
            "nvmlDeviceGetPowerUsage": (),
            "nvmlDeviceGetSamples(TOTAL_POWER_SAMPLES)": (_POWER_SAMPLES, 0),
            "nvmlDeviceGetComputeRunningProcesses": (),
            "nvmlDeviceGetProcessUtilization": (0,),
            "nvmlDeviceGetEnforcedPowerLimit": (),
        }
        found = {}
        for name, values in calls.items():
            times = sorted(filter(None, (self._time(name.partition("(")[0], values) for _ in range(repeat))))
            if times:
                p99 = times[math.ceil(0.99 * len(times)) - 1]
                found[name] = {"p50_seconds": statistics.median(times), "p99_seconds": p99}
        return found

    def _time(self, function: str, values: tuple[Any, ...]) -> float | None:
        time.sleep(_CALL_PAUSE_SECONDS)
        begin = time.perf_counter()
        try:
            self._device.call(function, *values)
        except NvmlError as error:
            if error.kind in _ABSENT:
                return None  # An answer such as "nothing new" takes its time as well.
        return time.perf_counter() - begin

    def close(self) -> None:
        """Give NVML back."""
        self._session.leave()
