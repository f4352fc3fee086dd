"""The other processes on NVIDIA's devices, and what they hold there, where the driver tells."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from titan_nb.energy.sensors.nvml import binding
from titan_nb.energy.sensors.nvml_device import NvmlDevice, number
from titan_nb.energy.sensors.nvml_processes import our_pid
from titan_nb.energy.sensors.nvml_session import NvmlSession

__all__ = ["Neighbour", "neighbours"]

_PROC = Path("/proc")


class Neighbour(NamedTuple):
    """Another process on a device.

    Attributes:
        device: The device key.
        pid: Its process id, as the driver knows it: in a container that is the host's.
        name: Its command; empty where it cannot be seen from here.
        used_bytes: What it holds on the device; None where the driver does not tell.
    """

    device: str
    pid: int
    name: str
    used_bytes: int | None


def neighbours(nvml: Any = None) -> list[Neighbour]:
    """Return the other compute processes, device by device; to be called on the sampler's thread.

    Args:
        nvml: The module ``pynvml``, or a stand-in for it.

    Raises:
        SensorError: If NVML cannot be used.
    """
    session = NvmlSession.join(binding() if nvml is None else nvml)
    try:
        count = int(session.nvml.nvmlDeviceGetCount())
        return [one for index in range(count) for one in _others(NvmlDevice(session, index))]
    finally:
        session.leave()


def _others(device: NvmlDevice) -> Iterator[Neighbour]:
    processes = device.ask("nvmlDeviceGetComputeRunningProcesses") or []
    ours = our_pid({int(one.pid) for one in processes})
    for one in processes:
        pid = int(one.pid)
        if pid != ours:
            used = number(getattr(one, "usedGpuMemory", None))
            yield Neighbour(f"gpu:{device.uuid}", pid, _command(pid), None if used is None else int(used))


def _command(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
