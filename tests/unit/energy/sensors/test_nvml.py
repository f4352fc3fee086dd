from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from titan_nb.energy.sensors import Reading, nvml
from titan_nb.energy.sensors.nvml import TICK_SECONDS, nvml_sensors
from titan_nb.errors import SensorError

CALLS = (
    "nvmlInit",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetComputeRunningProcesses",
)
FATAL = (*CALLS[:5], "nvmlDeviceGetTotalEnergyConsumption")
CODES = sorted(
    value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_") and isinstance(value, int)
)


class Nvml:
    """A stand-in for pynvml with two GPUs, whose calls can be made to fail."""

    def __init__(self) -> None:
        self.names: list[str | bytes] = ["NVIDIA H100", b"NVIDIA A100"]
        self.millijoules = 1_000_000
        self.pids: list[int] = [os.getpid()]
        self.mig = False
        self.fail: dict[str, BaseException] = {}
        self.started = 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in object.__getattribute__(self, "fail"):

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
        return (b"GPU-aa", "GPU-bb")[handle]

    def nvmlDeviceGetName(self, handle: int) -> str | bytes:
        return self.names[handle]

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:
        if not self.mig:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "MIG-x":
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> int:
        return 1

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self.millijoules

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: int) -> int:
        return 700_000

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        return [SimpleNamespace(pid=pid) for pid in self.pids]


@pytest.fixture
def fake() -> Nvml:
    return Nvml()


def keys(fake: Nvml, **environ: str) -> list[str]:
    return [sensor.key for sensor in nvml_sensors(fake, environ)]


def test_visible_devices_are_found_by_index_uuid_and_mig(fake: Nvml) -> None:
    assert keys(fake) == ["gpu:GPU-aa", "gpu:GPU-bb"]
    assert keys(fake, CUDA_VISIBLE_DEVICES="1") == ["gpu:GPU-bb"]
    assert keys(fake, CUDA_VISIBLE_DEVICES="GPU-a") == ["gpu:GPU-aa"]
    assert keys(fake, CUDA_VISIBLE_DEVICES="MIG-x") == ["gpu:GPU-bb"]
    assert keys(fake, CUDA_VISIBLE_DEVICES="MIG-y") == []
    assert keys(fake, CUDA_VISIBLE_DEVICES="") == []
    assert [sensor.name for sensor in nvml_sensors(fake, {})] == ["NVIDIA H100", "NVIDIA A100"]


def test_an_index_that_may_mean_another_gpu_is_noted(fake: Nvml) -> None:
    (sensor,) = nvml_sensors(fake, {"CUDA_VISIBLE_DEVICES": "1"})
    assert "CUDA_DEVICE_ORDER" in sensor.source
    for environ in (
        {},
        {"CUDA_VISIBLE_DEVICES": "GPU-a"},
        {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    ):
        assert "CUDA_DEVICE_ORDER" not in nvml_sensors(fake, environ)[0].source
    fake.names = ["NVIDIA H100", "NVIDIA H100"]
    assert "CUDA_DEVICE_ORDER" not in nvml_sensors(fake, {"CUDA_VISIBLE_DEVICES": "1"})[0].source


def measure(fake: Nvml, joules: float, seconds: float, **environ: str) -> Any:
    sensor = nvml_sensors(fake, environ)[0]
    begin = sensor.read()
    fake.millijoules += int(joules * 1000)
    end = sensor.read()
    begin, end = Reading(0.0, begin.value, begin.extra), Reading(seconds, end.value, end.extra)
    return sensor.energy(begin, end, 0.0, seconds)


def test_alone_on_the_device_is_measured_with_a_tick_of_the_limit_either_side(fake: Nvml) -> None:
    energy = measure(fake, 5000, 10)
    assert energy.grade == "measured"
    assert energy.joules == pytest.approx(5000)
    assert energy.low == pytest.approx(5000 - 700 * TICK_SECONDS)
    assert energy.high == pytest.approx(5000 + 700 * TICK_SECONDS)


def test_shorter_than_a_tick_is_an_upper_bound_and_never_a_measured_zero(fake: Nvml) -> None:
    energy = measure(fake, 0, 0.01)
    assert (energy.grade, energy.low) == ("bounded", 0)
    assert energy.high == pytest.approx(700 * TICK_SECONDS)


def test_a_late_reading_widens_the_interval(fake: Nvml) -> None:
    sensor = nvml_sensors(fake, {})[0]
    extra = sensor.read().extra
    energy = sensor.energy(Reading(1.0, 0.0, extra), Reading(10.0, 5000.0, extra), 0.0, 10.0)
    assert energy.high == pytest.approx(5000 + 700 * (TICK_SECONDS + 1.0))


@pytest.mark.parametrize(
    ("pids", "grade"),
    [
        ([], "measured"),
        (["me"], "measured"),
        (["host"], "measured"),
        (["init"], "shared"),
        (["me", "host"], "shared"),
        (["host", "init"], "shared"),
    ],
)
def test_other_processes_make_it_shared(fake: Nvml, pids: list[str], grade: str) -> None:
    numbers = {"me": os.getpid(), "init": os.getppid(), "host": 2**22 + 7}
    fake.pids = [numbers[pid] for pid in pids]
    energy = measure(fake, 5000, 10)
    assert energy.grade == grade
    assert (energy.low == 0) == (grade == "shared")
    assert ("other processes" in energy.source) == (grade == "shared")


def test_a_mig_instance_is_charged_the_whole_gpu_and_it_says_so(fake: Nvml) -> None:
    energy = measure(fake, 5000, 10, CUDA_VISIBLE_DEVICES="MIG-x")
    assert (energy.grade, energy.low) == ("shared", 0)
    assert "MIG" in energy.source
    fake.mig = True
    assert "MIG" in measure(fake, 5000, 10).source
    assert measure(fake, 0, 0.01).grade == "bounded"


def test_no_list_of_processes_is_not_taken_for_being_alone(fake: Nvml) -> None:
    fake.fail["nvmlDeviceGetComputeRunningProcesses"] = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    energy = measure(fake, 5000, 10)
    assert energy.grade == "shared"
    assert "not known" in energy.source


def test_no_power_limit_gives_a_very_wide_interval_and_says_so(fake: Nvml) -> None:
    fake.fail["nvmlDeviceGetEnforcedPowerLimit"] = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    energy = measure(fake, 5000, 10)
    assert energy.joules == pytest.approx(5000)
    assert energy.low == 0
    assert energy.high > 15_000
    assert "power limit unknown" in energy.source


def test_no_counter_is_said(fake: Nvml) -> None:
    fake.fail["nvmlDeviceGetTotalEnergyConsumption"] = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    with pytest.raises(SensorError, match="NVIDIA H100 has no energy counter"):
        nvml_sensors(fake, {})[0].read()


def test_a_device_that_does_not_answer_hides_no_other(fake: Nvml) -> None:
    fake.fail["nvmlDeviceGetName"] = pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
    first, second = nvml_sensors(fake, {})
    assert first.key == "gpu:index-0"
    with pytest.raises(SensorError, match="did not answer"):
        second.read()


@pytest.mark.parametrize("call", CALLS)
def test_every_error_of_every_call_is_a_sensor_error_or_a_weaker_figure(fake: Nvml, call: str) -> None:
    for code in CODES:
        fake.fail = {call: pynvml.NVMLError(code)}
        if call in FATAL:
            with pytest.raises(SensorError, match=r"NVML|NVIDIA|answer"):
                measure(fake, 5000, 10)
        else:
            energy = measure(fake, 5000, 10)
            assert energy.joules == pytest.approx(5000)
            assert energy.low <= 5000 <= energy.high


def test_trouble_comes_with_its_remedy(fake: Nvml) -> None:
    fake.fail["nvmlInit"] = pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    with pytest.raises(SensorError) as caught:
        nvml_sensors(fake, {})
    assert caught.value.remedy == "load the NVIDIA driver: sudo modprobe nvidia"


def test_nvml_is_started_once_and_given_back_with_the_last_sensor(fake: Nvml) -> None:
    first, second = nvml_sensors(fake, {})
    assert fake.started == 1
    first.close()
    first.close()
    assert fake.started == 1
    second.close()
    assert fake.started == 0
    nvml_sensors(fake, {"CUDA_VISIBLE_DEVICES": ""})
    assert fake.started == 0


def test_without_the_binding_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SensorError, match="pip install nvidia-ml-py"):
        nvml_sensors()


def test_the_real_binding_is_used_by_default(monkeypatch: pytest.MonkeyPatch, fake: Nvml) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(nvml.os, "environ", {"CUDA_VISIBLE_DEVICES": "0"})
    assert [sensor.key for sensor in nvml_sensors()] == ["gpu:GPU-aa"]
