from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from titan_nb.energy import FakeSensor, Finding
from titan_nb.errors import SensorError
from titan_nb.host import process_id

# The room exports a function of the same name.
module = importlib.import_module("titan_nb.energy.discover")
probes = importlib.import_module("titan_nb.energy.probes")

CPU, RAM = f"cpu-process:{process_id()}", f"ram:{process_id()}"


def returns(value: Any) -> Any:
    return lambda *_: value


def raises(error: BaseException) -> Any:
    def function(*_: Any) -> Any:
        raise error

    return function


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on Linux with neither RAPL, NVIDIA, AMD nor Jetson."""
    for room in (module, probes):
        monkeypatch.setattr(room, "_PLATFORM", "linux")
    monkeypatch.setattr(module, "_PCI", Path("/nonexistent"))
    monkeypatch.setattr(probes, "_AMD_NODE", "/nonexistent")
    monkeypatch.setattr(module, "_JETSON_NOTE", "/nonexistent")
    monkeypatch.delenv("ZEUSD_SOCK_PATH", raising=False)
    monkeypatch.delenv("ZEUSD_HOST_PORT", raising=False)
    monkeypatch.setattr(module, "rapl_sensors", returns([]))
    monkeypatch.setattr(
        "titan_nb.energy.sensors.nvml.nvml_sensors", raises(SensorError("no library", "install the driver"))
    )
    monkeypatch.setattr(probes, "_NVIDIA_NODES", ("/nonexistent",))


def keys(found: Any) -> list[str]:
    return [sensor.key for sensor in found.sensors]


def finding(found: Any, device: str) -> Finding:
    (match,) = [finding for finding in found.findings if finding.device == device]
    return match


def test_without_counters_the_models_are_left() -> None:
    found = probes.discover()
    assert keys(found) == [CPU, RAM]
    assert {one.device: (one.available, one.grade, one.remedy) for one in found.findings} == {
        "CPU package": (False, "unknown", ""),
        "CPU of this process": (True, "modelled", ""),
        "memory of this process": (True, "modelled", ""),
        "NVIDIA GPU": (False, "unknown", ""),
    }
    assert not found.missing


def test_a_driver_is_asked_for_only_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert finding(probes.discover(), "NVIDIA GPU").why == "no NVIDIA GPU is seen here"
    monkeypatch.setattr(module, "_PCI", tmp_path)
    for slot, vendor in (("0", "0x1002"), ("1", "0x10de")):
        (tmp_path / slot).mkdir()
        (tmp_path / slot / "vendor").write_text(f"{vendor}\n", encoding="ascii")
    (tmp_path / "2" / "vendor").mkdir(parents=True)  # cannot be read
    gpu = finding(probes.discover(), "NVIDIA GPU")
    assert (gpu.why, gpu.remedy) == ("no library", "install the driver")


def test_a_counter_makes_its_model_superfluous(monkeypatch: pytest.MonkeyPatch) -> None:
    package, memory = FakeSensor("cpu:b:pkg0"), FakeSensor("dram:b:pkg0")
    package.name, memory.name = "CPU package 0", "memory of CPU package 0"
    monkeypatch.setattr(module, "rapl_sensors", returns([package]))
    assert keys(probes.discover()) == ["cpu:b:pkg0", RAM]
    monkeypatch.setattr(module, "rapl_sensors", returns([package, memory]))
    found = probes.discover()
    assert keys(found) == ["cpu:b:pkg0", "dram:b:pkg0"]
    assert finding(found, "CPU package 0").grade == "shared"
    assert finding(found, "memory of CPU package 0").available


def test_the_whole_platform_holds_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "rapl_sensors", returns([FakeSensor("cpu:b:psys")]))
    assert keys(probes.discover()) == ["cpu:b:psys"]


def test_counters_that_may_not_be_read_leave_the_model_and_tell_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "rapl_sensors", raises(SensorError("may not read", "sudo chmod")))
    found = probes.discover()
    assert keys(found) == [CPU, RAM]
    package = finding(found, "CPU package")
    assert (package.available, package.why, package.remedy) == (False, "may not read", "sudo chmod")


def test_a_daemon_reads_what_we_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "rapl_sensors", raises(SensorError("may not read", "sudo chmod")))
    monkeypatch.setattr("titan_nb.energy.sensors.zeusd.zeusd_sensors", returns([FakeSensor("cpu:b:pkg0")]))
    assert keys(probes.discover()) == [CPU, RAM], "nobody said where the daemon is"
    monkeypatch.setenv("ZEUSD_SOCK_PATH", "/run/zeusd.sock")
    found = probes.discover()
    assert keys(found) == ["cpu:b:pkg0", RAM]
    assert finding(found, "simulated device").means == "RAPL counter by zeusd"
    monkeypatch.setattr(
        "titan_nb.energy.sensors.zeusd.zeusd_sensors", raises(SensorError("refused", "start zeusd"))
    )
    assert finding(probes.discover(), "CPU package").remedy == "start zeusd"


def test_a_limited_container_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.CpuModel, "limits", "limited to the time of 1.5 CPUs")
    assert "; limited to the time of 1.5 CPUs" in finding(probes.discover(), "CPU of this process").why


def test_on_a_mac_only_what_it_can_have_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (module, probes):
        monkeypatch.setattr(room, "_PLATFORM", "darwin")
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    assert [one.device for one in probes.discover().findings] == [
        "CPU of this process",
        "memory of this process",
    ]
    monkeypatch.setattr(module.platform, "machine", lambda: "arm64")
    chip = probes.discover().findings[0]
    assert (chip.device, chip.remedy) == ("Apple chip", 'pip install "titan_nb[apple]"')
    parts = [FakeSensor("cpu:b:soc"), FakeSensor("dram:b:soc"), FakeSensor("gpu:soc-b")]
    monkeypatch.setattr("titan_nb.energy.sensors.apple.apple_sensors", returns(parts))
    found = probes.discover()
    assert keys(found) == ["cpu:b:soc", "dram:b:soc", "gpu:soc-b"]
    assert {one.grade for one in found.findings} == {"modelled"}


def test_on_windows_only_the_models_and_nvidia_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for room in (module, probes):
        monkeypatch.setattr(room, "_PLATFORM", "win32")
    assert [one.device for one in probes.discover().findings] == [
        "CPU of this process",
        "memory of this process",
        "NVIDIA GPU",
    ]


def test_the_module_of_a_jetson_holds_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_JETSON_NOTE", "/dev/null")
    monkeypatch.setattr(
        "titan_nb.energy.sensors.jetson.jetson_sensors", returns([FakeSensor("cpu:b:module")])
    )
    assert keys(probes.discover()) == ["cpu:b:module"]
    monkeypatch.setattr("titan_nb.energy.sensors.jetson.jetson_sensors", returns([]))
    found = probes.discover()
    assert keys(found) == [CPU, RAM]
    assert finding(found, "Jetson module").why == "this module has no such rail"


def test_an_amd_gpu_is_looked_for_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [probe.name for probe in probes.machine_probes()] == ["CPU and memory", "NVIDIA GPU"]
    monkeypatch.setattr(probes, "_AMD_NODE", "/dev/null")
    assert [probe.key for probe in probes.machine_probes()] == ["", "", "gpu:amd"]
    monkeypatch.setattr(
        "titan_nb.energy.sensors.amd.amd_sensors", raises(SensorError("no zeus", "pip install"))
    )
    found = probes.discover()
    assert found.missing == {"gpu:amd": "no zeus"}
    assert finding(found, "AMD GPU").remedy == "pip install"
    monkeypatch.setattr("titan_nb.energy.sensors.amd.amd_sensors", returns([]))
    found = probes.discover()
    assert not found.missing
    assert "HIP_VISIBLE_DEVICES" in finding(found, "AMD GPU").why
    monkeypatch.setattr("titan_nb.energy.sensors.amd.amd_sensors", returns([FakeSensor("gpu:amd0-b")]))
    found = probes.discover()
    assert keys(found) == [CPU, RAM, "gpu:amd0-b"]
    assert finding(found, "simulated device").grade == "shared"


def test_a_chip_in_no_table_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.CpuModel, "prepare", raises(SensorError("in no table")))
    found = probes.discover()
    assert finding(found, "CPU of this process").why == "in no table"
    assert CPU in keys(found)


def test_gpus_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = FakeSensor("gpu:a"), FakeSensor("gpu:b", faults=["raise"])
    bad.name = "old GPU"
    monkeypatch.setattr("titan_nb.energy.sensors.nvml.nvml_sensors", returns([good, bad]))
    found = probes.discover()
    assert keys(found) == [CPU, RAM, "gpu:a", "gpu:b"]
    assert finding(found, "simulated device").available
    assert finding(found, "old GPU").why == "a simulated fault"


def test_no_visible_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titan_nb.energy.sensors.nvml.nvml_sensors", returns([]))
    assert "CUDA_VISIBLE_DEVICES" in finding(probes.discover(), "NVIDIA GPU").remedy


def test_a_gpu_that_is_there_but_cannot_be_read_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "_NVIDIA_NODES", ("/dev/null",))
    assert probes.discover().missing == {"gpu:nvidia": "no library (install the driver)"}
    assert [probe.key for probe in probes.machine_probes()] == ["", "gpu:nvidia"]


def test_the_models_are_made_once_per_process() -> None:
    first, second = probes.machine_probes()[0], probes.machine_probes()[0]
    assert first.early[0] is second.early[0]
