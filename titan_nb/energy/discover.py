"""The searches: what can be measured on this machine, by which means, and what is missing.

Each kind of device is imported by the search for it, so that the first cell does not wait for the others.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from titan_nb.energy.probes import AMD_KEY, NVIDIA_KEY, Discovery, Finding
from titan_nb.energy.sensors import Counter, Sensor
from titan_nb.energy.sensors.cpu_model import CpuModel
from titan_nb.energy.sensors.ram_model import RamModel
from titan_nb.energy.sensors.rapl import rapl_sensors, rapl_zones
from titan_nb.errors import SensorError
from titan_nb.records import Grade

__all__ = ["probe_amd", "probe_host", "probe_nvidia"]

CALIBRATE = "python -m titan_nb.energy.calibrate --save"

_PLATFORM: str = sys.platform
_NVIDIA_VENDOR = "0x10de"
_PCI = Path("/sys/bus/pci/devices")
_JETSON_NOTE = "/etc/nv_tegra_release"


def probe_host(cpu: CpuModel, ram: RamModel) -> Discovery:
    """Search for the counters of the CPU and its chip; models stand in where there is none."""
    counters, findings = _host_counters()
    sensors: list[Sensor | Counter] = list(counters)
    keys = [sensor.key for sensor in counters]
    # The counter of a whole platform or module holds the memory.
    everything = any(key.endswith((":psys", ":module")) for key in keys)
    if not any(key.startswith("cpu:") for key in keys):
        sensors.append(cpu)
        findings.append(_cpu_finding(cpu))
    if not everything and not any(key.startswith("dram:") for key in keys):
        sensors.append(ram)
        findings.append(Finding("memory of this process", "model", True, ram.source, grade="modelled"))
    return Discovery(tuple(sensors), tuple(findings))


def _host_counters() -> tuple[Sequence[Counter], list[Finding]]:
    """Return the counters of the CPU and what belongs to its chip, and what to tell about them."""
    if _PLATFORM == "darwin" and platform.machine() == "arm64":
        from titan_nb.energy.sensors.apple import apple_sensors

        none = "this chip has no such counter"
        return _found("Apple chip", "macOS energy counters", apple_sensors, none, "modelled")
    if _PLATFORM != "linux":
        return (), []
    if Path(_JETSON_NOTE).exists():
        from titan_nb.energy.sensors.jetson import jetson_sensors

        return _found("Jetson module", "power rails", jetson_sensors, "this module has no such rail")
    why = "this machine shows none, like most virtual machines"
    counters, findings = _found("CPU package", "RAPL counter", rapl_sensors, why)
    if counters or not findings[0].remedy:
        return counters, findings
    from titan_nb.energy.sensors.zeusd import zeusd_configured

    if not zeusd_configured():
        return counters, findings
    return _found("CPU package", "RAPL counter by zeusd", _by_daemon, "zeusd reads no counter here")


def _by_daemon() -> Sequence[Counter]:
    from titan_nb.energy.cpu_share import MachineCpu
    from titan_nb.energy.sensors.zeusd import zeusd_sensors

    return zeusd_sensors(rapl_zones(), MachineCpu())


def _found(
    device: str, means: str, search: Callable[[], Sequence[Counter]], none: str, grade: Grade = "shared"
) -> tuple[Sequence[Counter], list[Finding]]:
    """Return the counters of a search that can be read, with a finding for each one, or for there being none.

    Args:
        device: What to call the device if there is no counter.
        means: By which counter it would be measured.
        search: The search.
        none: Why there is no counter if the search finds none.
        grade: The grade of such counters.
    """
    try:
        counters = search()
    except SensorError as error:
        return (), [_absent(device, means, error)]
    if not counters:
        return (), [Finding(device, means, False, none)]
    return counters, [_finding(counter, means, grade) for counter in counters]


def _finding(counter: Counter, means: str, grade: Grade) -> Finding:
    try:
        counter.read()
    except SensorError as error:
        return _absent(counter.name, means, error)
    return Finding(counter.name, means, True, counter.source, grade=grade)


def _cpu_finding(cpu: CpuModel) -> Finding:
    try:
        cpu.prepare()
    except SensorError as error:
        return _absent("CPU of this process", "model", error)
    why = cpu.source if not cpu.limits else f"{cpu.source}; {cpu.limits}"
    return Finding("CPU of this process", "model", True, why, grade="modelled")


def probe_nvidia(expected: bool) -> Discovery:
    """Search for NVIDIA GPUs.

    Args:
        expected: Whether the driver has been seen, so that there must be one.
    """
    from titan_nb.energy.calibration import load_calibrations
    from titan_nb.energy.sensors.nvml import nvml_sensors

    means = "NVML energy counter"
    calibrations = load_calibrations()
    try:
        sensors = nvml_sensors(None, None, calibrations)
    except SensorError as error:
        if _PLATFORM == "linux" and not expected and not _nvidia_on_bus():
            # The error's remedy would have the user install a driver for nothing.
            return Discovery((), (Finding("NVIDIA GPU", means, False, "no NVIDIA GPU is seen here"),))
        missing = {NVIDIA_KEY: str(error)} if expected else {}
        return Discovery((), (_absent("NVIDIA GPU", means, error),), missing)
    findings = [_gpu_finding(sensor, means, calibrations) for sensor in sensors]
    if not sensors:
        why = "no NVIDIA GPU is visible to this process"
        findings.append(Finding("NVIDIA GPU", means, False, why, "see CUDA_VISIBLE_DEVICES"))
    if calibrations.ignored:
        remedy = f"remove the file, then: {CALIBRATE}"
        findings.append(Finding("GPU calibration", "file", False, calibrations.ignored, remedy))
    return Discovery(tuple(sensors), tuple(findings))


def _gpu_finding(sensor: Counter, means: str, calibrations: Mapping[str, object]) -> Finding:
    finding = _finding(sensor, means, "measured")
    if (
        not finding.available
        or sensor.key.removeprefix("gpu:") in calibrations
        or sensor.name in calibrations
    ):
        return finding
    return replace(finding, remedy=CALIBRATE)


def _nvidia_on_bus() -> bool:
    return any(_text(vendor) == _NVIDIA_VENDOR for vendor in _PCI.glob("*/vendor"))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""  # It was unplugged between the two looks.


def probe_amd() -> Discovery:
    """Search for AMD GPUs."""
    from titan_nb.energy.sensors.amd import amd_sensors

    none = "no AMD GPU is visible to this process: see HIP_VISIBLE_DEVICES"
    counters, findings = _found("AMD GPU", "amdsmi energy counter", amd_sensors, none)
    failed = not counters and findings[0].why != none
    return Discovery(tuple(counters), tuple(findings), {AMD_KEY: findings[0].why} if failed else {})


def _absent(device: str, means: str, error: SensorError) -> Finding:
    return Finding(device, means, False, _plain(error), error.remedy)


def _plain(error: SensorError) -> str:
    return str(error).removesuffix(f" ({error.remedy})")
