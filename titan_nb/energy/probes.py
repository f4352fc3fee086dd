"""What there is to search for on this machine, and what a search tells.

The searches themselves are in `titan_nb.energy.discover`, which is imported by the first of them, on the
sampler's thread: with all its kinds of sensors it is too much for the loading of the extension.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from titan_nb.energy.sensors import Counter, Sensor
from titan_nb.energy.sensors.cpu_model import CpuModel
from titan_nb.energy.sensors.ram_model import RamModel
from titan_nb.records import Grade

__all__ = ["AMD_KEY", "NVIDIA_KEY", "Discovery", "Finding", "Probe", "discover", "machine_probes"]

_PLATFORM: str = sys.platform
_NVIDIA_NODES = ("/dev/nvidiactl", "/dev/dxg")  # Linux; Windows' subsystem for Linux
_AMD_NODE = "/dev/kfd"
NVIDIA_KEY = "gpu:nvidia"
AMD_KEY = "gpu:amd"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``%titan status``.

    Attributes:
        device: The device.
        means: By which counter or model it is measured.
        available: Whether it is measured here.
        why: What was found, or why it is not measured.
        remedy: What to do to have it measured, or measured better; empty when nothing can be done.
        grade: How far its figures can be trusted, at best.
    """

    device: str
    means: str
    available: bool
    why: str
    remedy: str = ""
    grade: Grade = "unknown"


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a probe found.

    Attributes:
        sensors: The sensors to read.
        findings: What to tell the user.
        missing: Devices that are here but cannot be read at all, by key, and why.
    """

    sensors: tuple[Sensor | Counter, ...] = ()
    findings: tuple[Finding, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probe:
    """One part of the search, which may block, so that one that hangs takes nothing else with it.

    Attributes:
        name: What it looks for.
        run: The search; on the sampler's thread only.
        early: Sensors that cost nothing to make and can be read before ``run`` has answered; those that it
            does not return are dropped.
        key: Device that is *unknown* while ``run`` has not answered; empty when nothing hints at one.
    """

    name: str
    run: Callable[[], Discovery]
    early: tuple[Sensor, ...] = ()
    key: str = ""


def discover() -> Discovery:
    """Search for everything that can be measured on this machine; may block for seconds."""
    parts = [probe.run() for probe in machine_probes()]
    return Discovery(
        tuple(sensor for part in parts for sensor in part.sensors),
        tuple(finding for part in parts for finding in part.findings),
        {key: why for part in parts for key, why in part.missing.items()},
    )


def machine_probes() -> tuple[Probe, ...]:
    """Return the probes for this machine; of devices that it cannot have there is none."""
    models = _models(os.getpid())
    probes = [Probe("CPU and memory", functools.partial(_host, *models), early=models)]
    if _PLATFORM != "darwin":
        here = any(Path(node).exists() for node in _NVIDIA_NODES)
        probes.append(Probe("NVIDIA GPU", functools.partial(_nvidia, here), key=NVIDIA_KEY if here else ""))
    if _PLATFORM == "linux" and Path(_AMD_NODE).exists():
        probes.append(Probe("AMD GPU", _amd, key=AMD_KEY))
    return tuple(probes)


@functools.lru_cache(maxsize=1)
def _models(pid: int) -> tuple[CpuModel, RamModel]:
    """Return the models of the process ``pid``, made once, so that the chip is looked up once."""
    return CpuModel(), RamModel()


def _host(cpu: CpuModel, ram: RamModel) -> Discovery:
    from titan_nb.energy.discover import probe_host

    return probe_host(cpu, ram)


def _nvidia(expected: bool) -> Discovery:
    from titan_nb.energy.discover import probe_nvidia

    return probe_nvidia(expected)


def _amd() -> Discovery:
    from titan_nb.energy.discover import probe_amd

    return probe_amd()
