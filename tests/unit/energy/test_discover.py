from __future__ import annotations

import importlib
from typing import Any

import pytest

from titan_nb.energy import FakeSensor, Finding
from titan_nb.errors import SensorError
from titan_nb.host import process_id

# The room exports a function of the same name.
module = importlib.import_module("titan_nb.energy.discover")

CPU, RAM = f"cpu-process:{process_id()}", f"ram:{process_id()}"


def returns(value: Any) -> Any:
    return lambda *_: value


def raises(error: BaseException) -> Any:
    def function(*_: Any) -> Any:
        raise error

    return function


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with neither RAPL nor NVIDIA."""
    monkeypatch.setattr(module, "rapl_sensors", returns([]))
    monkeypatch.setattr(module, "nvml_sensors", raises(SensorError("no library", "install the driver")))
    monkeypatch.setattr(module, "_NVIDIA_NODES", ("/nonexistent",))


def keys(found: Any) -> list[str]:
    return [sensor.key for sensor in found.sensors]


def finding(found: Any, device: str) -> Finding:
    (match,) = [finding for finding in found.findings if finding.device == device]
    return match


def test_without_counters_the_models_are_left() -> None:
    found = module.discover()
    assert keys(found) == [CPU, RAM]
    assert not finding(found, "CPU package").available
    assert finding(found, "memory").available
    assert finding(found, "NVIDIA GPU") == Finding(
        "NVIDIA GPU", "NVML energy counter", False, "no library", "install the driver"
    )
    assert not found.missing


def test_a_counter_makes_its_model_superfluous(monkeypatch: pytest.MonkeyPatch) -> None:
    package, memory = FakeSensor("cpu:b:pkg0"), FakeSensor("dram:b:pkg0")
    monkeypatch.setattr(module, "rapl_sensors", returns([package]))
    assert keys(module.discover()) == ["cpu:b:pkg0", RAM]
    monkeypatch.setattr(module, "rapl_sensors", returns([package, memory]))
    found = module.discover()
    assert keys(found) == ["cpu:b:pkg0", "dram:b:pkg0"]
    assert finding(found, "CPU package").available


def test_counters_that_may_not_be_read_leave_the_model_and_tell_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "rapl_sensors", raises(SensorError("may not read", "sudo chmod")))
    found = module.discover()
    assert keys(found) == [CPU, RAM]
    package = finding(found, "CPU package")
    assert (package.available, package.why, package.remedy) == (False, "may not read", "sudo chmod")


def test_a_chip_in_no_table_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.CpuModel, "prepare", raises(SensorError("in no table")))
    found = module.discover()
    assert finding(found, "CPU of this process").why == "in no table"
    assert CPU in keys(found)


def test_gpus_are_told_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = FakeSensor("gpu:a"), FakeSensor("gpu:b", faults=["raise"])
    bad.name = "old GPU"
    monkeypatch.setattr(module, "nvml_sensors", returns([good, bad]))
    found = module.discover()
    assert keys(found) == [CPU, RAM, "gpu:a", "gpu:b"]
    assert finding(found, "simulated device").available
    assert finding(found, "old GPU").why == "a simulated fault"


def test_no_visible_gpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "nvml_sensors", returns([]))
    assert "CUDA_VISIBLE_DEVICES" in finding(module.discover(), "NVIDIA GPU").remedy


def test_a_gpu_that_is_there_but_cannot_be_read_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_NVIDIA_NODES", ("/dev/null",))
    assert module.discover().missing == {"gpu:nvidia": "no library (install the driver)"}
    assert [probe.key for probe in module.machine_probes()] == ["", "gpu:nvidia"]


def test_the_models_are_made_once_per_process() -> None:
    first, second = module.machine_probes()[0], module.machine_probes()[0]
    assert first.early[0] is second.early[0]
