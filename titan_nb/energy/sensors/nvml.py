"""NVIDIA GPUs by the total-energy counter of NVML; no ``nvidia-smi`` is needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from titan_nb.energy.bracket import MAX_WATTS, bracket
from titan_nb.energy.cuda_visible import visible_devices
from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.records import Energy, Grade

__all__ = ["TICK_SECONDS", "NvmlSensor", "nvml_sensors"]

TICK_SECONDS = 0.12
"""The longest time between two ticks of the counter.

NVIDIA documents none; the projects Zeus and PETSc report 20 to 100 ms, by model. A fifth is added.
"""

_UNSEEN = -1.0

_REMEDIES = {
    "NVMLError_LibraryNotFound": "install the NVIDIA driver; in a container, start it with GPU access",
    "NVMLError_DriverNotLoaded": "load the NVIDIA driver: sudo modprobe nvidia",
    "NVMLError_LibRmVersionMismatch": "the driver was updated while in use: restart the machine",
    "NVMLError_NoPermission": "ask for read access to /dev/nvidiactl and /dev/nvidia0",
    "NVMLError_GpuIsLost": "restart the machine",
}


def nvml_sensors(nvml: Any = None, environ: Mapping[str, str] | None = None) -> list[NvmlSensor]:
    """Return one sensor for each NVIDIA device that CUDA shows to this process.

    Args:
        nvml: The module ``pynvml``, or a stand-in for it.
        environ: Where ``CUDA_VISIBLE_DEVICES`` and ``CUDA_DEVICE_ORDER`` are; the process's own by default.

    Raises:
        SensorError: If NVML cannot be used; the message carries the remedy where there is one.
    """
    environ = os.environ if environ is None else environ
    nvml = _binding() if nvml is None else nvml
    try:
        nvml.nvmlInit()
    except Exception as error:
        raise _trouble("NVML cannot be started", error) from error
    try:
        return _open(nvml, environ)
    except Exception as error:
        raise _trouble("the NVIDIA devices cannot be listed", error) from error


def _binding() -> Any:
    try:
        import pynvml
    except ImportError as error:
        raise SensorError("the Python binding of NVML is missing", "pip install nvidia-ml-py") from error
    return pynvml


def _open(nvml: Any, environ: Mapping[str, str]) -> list[NvmlSensor]:
    devices = [_identify(nvml, index) for index in range(int(nvml.nvmlDeviceGetCount()))]

    def parent_of_mig(uuid: str) -> str | None:
        try:
            instance = nvml.nvmlDeviceGetHandleByUUID(uuid)
            parent = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(instance)
            return _text(nvml.nvmlDeviceGetUUID(parent))
        except Exception:
            return None  # An entry that names no device, which ends CUDA's own list as well.

    setting = environ.get("CUDA_VISIBLE_DEVICES")
    note = _order_note(setting, environ.get("CUDA_DEVICE_ORDER"), [name for _, _, name in devices])
    visible = visible_devices(setting, [uuid for _, uuid, _ in devices], parent_of_mig)
    session = _Session(nvml, len(visible))
    return [
        NvmlSensor(session, *devices[position], mig=mig or _mig_mode(nvml, devices[position][0]), note=note)
        for position, mig in visible
    ]


def _identify(nvml: Any, index: int) -> tuple[Any, str, str]:
    """Return handle, UUID and name; of a device that does not answer, what stands in for them."""
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        return handle, _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
    except Exception as error:
        return _trouble("it did not answer when it was looked for", error), f"index-{index}", f"GPU {index}"


class _Session:
    """NVML started once, and given back when its last sensor is closed.

    NVML counts who started it, so others in this process who use it are not disturbed.
    """

    def __init__(self, nvml: Any, users: int) -> None:
        self.nvml = nvml
        self._users = users
        if not users:
            nvml.nvmlShutdown()

    def leave(self) -> None:
        self._users -= 1
        if self._users == 0:
            self.nvml.nvmlShutdown()


def _order_note(setting: str | None, order: str | None, names: list[str]) -> str:
    """Say when an index in ``CUDA_VISIBLE_DEVICES`` may mean another device to CUDA than to NVML."""
    by_index = any(part.strip().isdecimal() for part in (setting or "").split(","))
    if not by_index or order == "PCI_BUS_ID" or len(set(names)) < 2:
        return ""
    return "CUDA may number these GPUs in another order: set CUDA_DEVICE_ORDER=PCI_BUS_ID to be sure"


def _mig_mode(nvml: Any, handle: Any) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetMigMode(handle)[0])
    except Exception:
        return False  # Not supported: most models have no such mode.


class NvmlSensor:
    """The energy counter of one NVIDIA device, for the whole board.

    The figure is *shared* when another compute process is on the device, when only a MIG instance of it is
    ours, or when the driver does not tell who is on it; NVML has no counter for a part of a device, so the
    lower end is zero then. Where the driver does not tell the power limit, the interval is very wide, and
    says so. A limit is an average: for a few milliseconds a board may draw more.

    The value of a reading is joules. Its extra values are the power limit in watts and the number of other
    compute processes, each -1 where the driver does not tell.

    Args:
        session: NVML, started.
        handle: NVML's handle of the device, or the error that came instead of it.
        uuid: UUID of the device.
        name: Product name.
        mig: Whether only a MIG instance of the device is ours.
        note: What else the reader of the report must know.
    """

    blocking = True
    counter = True
    refresh_seconds: float | None = None

    def __init__(
        self, session: _Session, handle: Any, uuid: str, name: str, *, mig: bool = False, note: str = ""
    ) -> None:
        self.key = f"gpu:{uuid}"
        self.name = name
        self.note = note
        self.source = f"NVML energy counter of {name}" + (f" ({note})" if note else "")
        self._session = session
        self._nvml = session.nvml
        self._handle = handle
        self._mig = mig
        self._closed = False

    def read(self) -> Reading:
        """Read the counter, the power limit and who is on the device.

        Raises:
            SensorError: If the counter cannot be read.
        """
        if isinstance(self._handle, SensorError):
            raise SensorError(f"{self.name}: {self._handle}")
        before = time.perf_counter()
        try:
            millijoules = self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        except Exception as error:
            if type(error).__name__ == "NVMLError_NotSupported":
                raise SensorError(f"{self.name} has no energy counter") from error
            raise _trouble(f"{self.name} cannot be read", error) from error
        at = (before + time.perf_counter()) / 2
        return Reading(at, millijoules * 1e-3, (self._limit_watts(), self._others()))

    def _limit_watts(self) -> float:
        limit = self._ask(self._nvml.nvmlDeviceGetEnforcedPowerLimit)
        return limit * 1e-3 if isinstance(limit, (int, float)) and limit > 0 else _UNSEEN

    def _others(self) -> float:
        processes = self._ask(self._nvml.nvmlDeviceGetComputeRunningProcesses)
        if processes is None:
            return _UNSEEN
        pids = {int(process.pid) for process in processes}
        if len(pids) == 1 and not pids & {os.getpid()}:
            (pid,) = pids
            # In a container NVML shows the host's process ids: one that does not exist here is taken as ours.
            return float(Path(f"/proc/{pid}").exists())
        return float(max(0, len(pids) - 1))

    def _ask(self, function: Callable[[Any], Any]) -> Any:
        try:
            return function(self._handle)
        except Exception:
            return None  # What is not told widens the interval or weakens the grade, and the source says so.

    def energy(self, begin: Reading, end: Reading, started: float, ended: float) -> Energy:
        """Return the energy of the window by the counter, with an interval for its ticks."""
        limit = max(begin.extra[0], end.extra[0])
        others = max(begin.extra[1], end.extra[1])
        wide = "" if limit > 0 else "; power limit unknown, so the interval is very wide"
        whole = bracket(
            begin,
            end,
            started,
            ended,
            limit_watts=limit if limit > 0 else MAX_WATTS,
            tick_seconds=TICK_SECONDS,
            source=self.source + wide,
        )
        sharing = self._sharing(others, min(begin.extra[1], end.extra[1]) < 0)
        if not sharing:
            return whole
        grade: Grade = "bounded" if whole.grade == "bounded" else "shared"
        return Energy(whole.joules, 0.0, whole.high, grade, f"{whole.source}; {sharing}")

    def _sharing(self, others: float, unseen: bool) -> str:
        if self._mig:
            return "the whole GPU, of which this process has a MIG instance"
        if others > 0:
            return "the whole GPU, with other processes on it"
        return "the whole GPU; whether others use it is not known" if unseen else ""

    def close(self) -> None:
        """Give NVML back when this was its last sensor."""
        if not self._closed:
            self._closed = True
            self._session.leave()


def _trouble(what: str, error: Exception) -> SensorError:
    return SensorError(f"{what}: {error}", _REMEDIES.get(type(error).__name__, ""))


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
