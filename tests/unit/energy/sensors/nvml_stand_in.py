"""A stand-in for pynvml with two GPUs, for what the C library of tests/fakes is too slow or too real for."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pynvml

# What reads the energy counter.
READ = "nvmlDeviceGetTotalEnergyConsumption"
HOPPER, AMPERE, TURING, VOLTA, PASCAL = 9, 7, 6, 5, 4


def error(code: int) -> pynvml.NVMLError:
    return pynvml.NVMLError(code)


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Nvml:
    """Two GPUs, whose calls are counted and can be made to fail."""

    def __init__(self) -> None:
        self.names: list[str | bytes] = ["NVIDIA H100", b"NVIDIA A100"]
        self.uuids: list[str | bytes] = [b"GPU-aa", "GPU-bb"]
        self.architecture = HOPPER
        self.millijoules: Any = 1_000_000
        self.instant: int | None = 300_000
        self.usage = 200_000
        self.limit = 700_000
        self.stamp_us = 0
        self.samples: list[tuple[int, int]] | None = None
        self.pids: list[int] = [os.getpid()]
        self.utilization: list[tuple[int, int, int]] | None = None
        self.mig = False
        self.fail: dict[str, BaseException] = {}
        self.calls: list[str] = []
        self.started = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml"):
            object.__getattribute__(self, "calls").append(name)
            if name in object.__getattribute__(self, "fail"):

                def fail(*args: object) -> None:
                    raise self.fail[name]

                return fail
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:
        self.started += 1

    def nvmlShutdown(self) -> None:
        self.started -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.names)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str | bytes:
        return self.uuids[handle]

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return self.names[handle]

    def nvmlDeviceGetArchitecture(self, handle: int) -> int:
        return self.architecture

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        if not self.mig:
            raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any:
        texts = [value.decode() if isinstance(value, bytes) else value for value in self.uuids]
        if uuid in texts:
            return texts.index(uuid)
        if uuid != "MIG-x":
            raise error(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> int:
        return 1

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> Any:
        return self.millijoules

    def nvmlDeviceGetFieldValues(self, handle: int, fields: list[int]) -> list[Any]:
        value = {83: self.millijoules, 186: self.instant}[fields[0]]
        return [
            SimpleNamespace(
                nvmlReturn=0 if value is not None else pynvml.NVML_ERROR_NOT_SUPPORTED,
                valueType=pynvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG,
                value=SimpleNamespace(ullVal=value),
                timestamp=self.stamp_us,
            )
        ]

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self.usage

    def nvmlDeviceGetSamples(self, handle: int, kind: int, since: int) -> tuple[int, list[Any]]:
        if self.samples is None:
            raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)
        found = [
            SimpleNamespace(timeStamp=stamp, sampleValue=SimpleNamespace(uiVal=milliwatts))
            for stamp, milliwatts in self.samples
            if stamp > since
        ]
        if not found and since:
            raise error(pynvml.NVML_ERROR_NOT_FOUND)
        return pynvml.NVML_VALUE_TYPE_UNSIGNED_INT, found

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return self.limit

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self.pids]

    def nvmlDeviceGetProcessUtilization(self, handle: int, since: int) -> list[Any]:
        if self.utilization is None:
            raise error(pynvml.NVML_ERROR_NOT_SUPPORTED)
        found = [
            SimpleNamespace(pid=pid, timeStamp=stamp, smUtil=percent)
            for stamp, pid, percent in self.utilization
            if stamp > since
        ]
        if not found:
            raise error(pynvml.NVML_ERROR_NOT_FOUND)
        return found
