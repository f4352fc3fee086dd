"""One NVIDIA device as NVML knows it: its handle, its power, and its way back after it was lost."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from titan_nb.energy.bracket import MAX_WATTS
from titan_nb.energy.sensors.nvml_session import LOST, NvmlError, NvmlSession, text, trouble
from titan_nb.errors import SensorError

__all__ = ["ENERGY_FIELD", "POWER_INSTANT_FIELD", "RETRY_SECONDS", "NvmlDevice", "number", "union"]

ENERGY_FIELD = 83
"""NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION, in millijoules."""

POWER_INSTANT_FIELD = 186
"""NVML_FI_DEV_POWER_INSTANT, in milliwatts."""

RETRY_SECONDS = 5.0
"""A lost device is looked for again after so long, then after twice as long, and so on."""

_MAX_RETRY_SECONDS = 320.0
_LIMIT_SECONDS = 60.0
"""The power limit is asked for again after so long: an administrator may change it."""

_UNION = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""The members of nvmlValue_t, in the order of nvmlValueType_t."""

_NOT_AVAILABLE = frozenset({2**32 - 1, 2**64 - 1})
"""What NVML gives for N/A."""


def number(value: Any) -> float | None:
    """Return ``value`` if it is a count that NVML can mean, or None for N/A and nonsense."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return None if value in _NOT_AVAILABLE or not 0 <= value < 2**63 else float(value)


class NvmlDevice:
    """One NVIDIA device, whose handle is looked up again when NVML was started anew.

    Attributes:
        uuid: UUID; ``index-<n>`` for a device that did not answer.
        name: Product name.
        architecture: NVML's number of the architecture; None when unknown.
        instant: Whether `watts` is the instantaneous power.

    Args:
        session: NVML, started.
        index: Position in the driver's order when it was found.
        clock: Where the time is from, in seconds.
    """

    def __init__(self, session: NvmlSession, index: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.uuid = f"index-{index}"
        self.name = f"GPU {index}"
        self.architecture: int | None = None
        self._session = session
        self._index = index
        self._clock = clock
        self._handle: Any = None
        self._generation = session.generation
        self._lost: NvmlError | None = None
        self._retry_seconds = RETRY_SECONDS
        self._retry_at = 0.0
        self._start_anew = False
        self._limit_watts = MAX_WATTS
        self._limit_due = 0.0
        self._held = False
        nvml = session.nvml
        try:
            self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = nvml.nvmlDeviceGetUUID(self._handle), nvml.nvmlDeviceGetName(self._handle)
            self.uuid, self.name = text(uuid), text(name)
        except Exception as error:
            self._lose(trouble(f"{self.name} did not answer when it was looked for", error))
        architecture = self.ask("nvmlDeviceGetArchitecture")
        self.architecture = architecture if isinstance(architecture, int) else None
        self.instant = self.field(POWER_INSTANT_FIELD) is not None

    @property
    def mig(self) -> bool:
        """Whether the device is divided into MIG instances."""
        mode = self.ask("nvmlDeviceGetMigMode")  # Most models have no such mode.
        return bool(mode and mode[0])

    def call(self, function: str, *values: Any) -> Any:
        """Call one of NVML's functions on this device.

        Raises:
            NvmlError: If it fails.
        """
        try:
            return getattr(self._session.nvml, function)(self._handle, *values)
        except Exception as error:
            raise trouble(f"{self.name} cannot be read", error) from error

    def ask(self, function: str, *values: Any) -> Any:
        """Call a function whose answer can be done without; None where there is none."""
        try:
            return self.call(function, *values)
        except NvmlError:
            return None  # What is not told widens an interval or weakens a grade, and the source says so.

    def read(self, function: str, *values: Any) -> Any:
        """Call the function that the device is read with, and find the device again if it was lost.

        Raises:
            SensorError: If it fails. A device that was lost is not asked again for `RETRY_SECONDS`.
        """
        back = self._lost is not None or self._generation != self._session.generation
        if back:
            self._come_back()
        try:
            value = self.call(function, *values)
        except NvmlError as error:
            if error.kind in LOST:
                self._lose(error)
            elif back:
                self._regain()
            raise
        if back:
            self._regain()
        return value

    def field(self, field: int, *, main: bool = False) -> tuple[float, int] | None:
        """Return a field's value, and its time stamp in microseconds of the wall clock; None for N/A.

        Args:
            field: NVML's number of the field.
            main: Whether the device is read with it; see `read`.

        Raises:
            SensorError: If it fails and ``main`` is set.
        """
        call = self.read if main else self.ask
        values = call("nvmlDeviceGetFieldValues", [field])
        if not values or values[0].nvmlReturn != 0:
            return None
        value = number(union(values[0].value, values[0].valueType))
        return None if value is None else (value, int(values[0].timestamp))

    def watts(self) -> float | None:
        """Return the power drawn now in watts, or None where the driver does not tell.

        It is the instantaneous power where the driver has it, otherwise what ``nvmlDeviceGetPowerUsage``
        gives, which is the mean of the last second on recent models.
        """
        if self._lost is not None:
            return None
        if self.instant:
            field = self.field(POWER_INSTANT_FIELD)
            milliwatts = None if field is None else field[0]
        else:
            milliwatts = number(self.ask("nvmlDeviceGetPowerUsage"))
        return None if milliwatts is None else milliwatts * 1e-3

    def limit_watts(self) -> float:
        """Return the enforced power limit in watts, asked for once a minute; `MAX_WATTS` where unknown."""
        now = self._clock()
        if now >= self._limit_due:
            self._limit_due = now + _LIMIT_SECONDS
            milliwatts = number(self.ask("nvmlDeviceGetEnforcedPowerLimit"))
            if milliwatts:
                self._limit_watts = milliwatts * 1e-3
        return self._limit_watts

    def hold(self) -> None:
        """Keep NVML started until `close`."""
        self._session.hold()
        self._held = True

    def close(self) -> None:
        """Give NVML back if no other device needs it."""
        if self._held:
            self._held = False
            self._session.leave()

    def _lose(self, error: NvmlError) -> None:
        self._lost = error
        self._retry_at = self._clock() + self._retry_seconds
        # A device that NVML does not know any more is not seen again before NVML is started anew.
        self._start_anew = self._start_anew or error.kind in LOST or error.kind == "NotFound"

    def _regain(self) -> None:
        self._lost, self._start_anew, self._retry_seconds = None, False, RETRY_SECONDS

    def _come_back(self) -> None:
        if self._lost is not None:
            if self._clock() < self._retry_at:
                raise SensorError(str(self._lost))
            self._retry_seconds = min(2 * self._retry_seconds, _MAX_RETRY_SECONDS)
        try:
            if self._start_anew and self._generation == self._session.generation:
                self._session.restart()
            self._generation = self._session.generation
            self._handle = self._find()
        except NvmlError as error:
            self._lose(error)
            raise

    def _find(self) -> Any:
        """Return the handle: by UUID where it is known, as the driver's order may have changed."""
        nvml = self._session.nvml
        try:
            if self.uuid.startswith("GPU-"):
                return nvml.nvmlDeviceGetHandleByUUID(self.uuid)
            return nvml.nvmlDeviceGetHandleByIndex(self._index)
        except Exception as error:
            raise trouble(f"{self.name} cannot be found", error) from error


def union(value: Any, kind: int) -> Any:
    """Return the member of an ``nvmlValue_t`` that is in use."""
    return getattr(value, _UNION[kind], None) if 0 <= kind < len(_UNION) else None
