"""What can be measured on this machine, by which means, and what is missing."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from titan_nb.energy.sensors import Sensor
from titan_nb.energy.sensors.cpu_model import CpuModel
from titan_nb.energy.sensors.nvml import NvmlSensor, nvml_sensors
from titan_nb.energy.sensors.ram_model import RamModel
from titan_nb.energy.sensors.rapl import rapl_sensors
from titan_nb.errors import SensorError

__all__ = ["Discovery", "Finding", "Probe", "discover", "machine_probes"]

_NVIDIA_NODES = ("/dev/nvidiactl", "/dev/dxg")  # Linux; Windows' subsystem for Linux
_NVIDIA_KEY = "gpu:nvidia"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``%titan status``.

    Attributes:
        device: The device.
        means: By which counter or model it is measured.
        available: Whether it is measured here.
        why: What was found, or why it is not measured.
        remedy: What to do to have it measured; empty when nothing can be done.
    """

    device: str
    means: str
    available: bool
    why: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Discovery:
    """What a probe found.

    Attributes:
        sensors: The sensors to read.
        findings: What to tell the user.
        missing: Devices that are here but cannot be read at all, by key, and why.
    """

    sensors: tuple[Sensor, ...] = ()
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
    """Return the probes for this machine."""
    models = _models(os.getpid())
    nvidia = any(Path(node).exists() for node in _NVIDIA_NODES)
    return (
        Probe("CPU and memory", functools.partial(_probe_host, *models), early=models),
        Probe("NVIDIA GPU", functools.partial(_probe_nvidia, nvidia), key=_NVIDIA_KEY if nvidia else ""),
    )


@functools.lru_cache(maxsize=1)
def _models(pid: int) -> tuple[CpuModel, RamModel]:
    """Return the models of the process ``pid``, made once, so that the chip is looked up once."""
    return CpuModel(), RamModel()


def _probe_host(cpu: CpuModel, ram: RamModel) -> Discovery:
    try:
        counters: tuple[Sensor, ...] = tuple(rapl_sensors())
        why = ", ".join(sensor.name for sensor in counters)
        why = why or "this machine shows no RAPL counter; most virtual machines show none"
        rapl = Finding("CPU package", "RAPL counter", bool(counters), why)
    except SensorError as error:
        counters = ()
        rapl = _absent("CPU package", "RAPL counter", error)
    findings = [rapl]
    sensors: list[Sensor] = list(counters)
    if not any(sensor.key.startswith("cpu:") for sensor in counters):
        sensors.append(cpu)
        findings.append(_cpu_finding(cpu))
    if not any(sensor.key.startswith("dram:") for sensor in counters):
        sensors.append(ram)
        findings.append(Finding("memory", "model", True, ram.source))
    return Discovery(tuple(sensors), tuple(findings))


def _cpu_finding(cpu: CpuModel) -> Finding:
    try:
        cpu.prepare()
    except SensorError as error:
        return _absent("CPU of this process", "model", error)
    return Finding("CPU of this process", "model", True, cpu.source)


def _probe_nvidia(expected: bool) -> Discovery:
    means = "NVML energy counter"
    try:
        sensors = nvml_sensors()
    except SensorError as error:
        missing = {_NVIDIA_KEY: str(error)} if expected else {}
        return Discovery((), (_absent("NVIDIA GPU", means, error),), missing)
    findings = [_gpu_finding(sensor, means) for sensor in sensors]
    if not sensors:
        why = "no NVIDIA GPU is visible to this process"
        findings.append(Finding("NVIDIA GPU", means, False, why, "see CUDA_VISIBLE_DEVICES"))
    return Discovery(tuple(sensors), tuple(findings))


def _gpu_finding(sensor: NvmlSensor, means: str) -> Finding:
    try:
        sensor.read()
    except SensorError as error:
        return _absent(sensor.name, means, error)
    return Finding(sensor.name, means, True, sensor.source)


def _absent(device: str, means: str, error: SensorError) -> Finding:
    return Finding(device, means, False, str(error).removesuffix(f" ({error.remedy})"), error.remedy)
