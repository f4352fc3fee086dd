from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pynvml
import pytest

from tests.unit.energy.sensors.nvml_stand_in import Nvml, error
from titan_nb.energy.sensors import nvml
from titan_nb.energy.sensors.nvml import NvmlCounter, NvmlPower, nvml_sensors
from titan_nb.errors import SensorError
from titan_nb.records import Energy

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
CALLS = (
    "nvmlInit",
    "nvmlDeviceGetCount",
    "nvmlDeviceGetHandleByIndex",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetName",
    "nvmlDeviceGetArchitecture",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetSamples",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetComputeRunningProcesses",
    "nvmlDeviceGetProcessUtilization",
    COUNTER,
)
FATAL = (*CALLS[:5], COUNTER)
CODES = sorted(
    value for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_") and isinstance(value, int)
)


@pytest.fixture
def fake() -> Nvml:
    return Nvml()


@pytest.fixture(autouse=True)
def given_back() -> Iterator[list[Any]]:
    """Close what a test opened, so that it leaves no session behind."""
    opened: list[Any] = []
    yield opened
    for sensor in opened:
        sensor.close()


@pytest.fixture
def sensors(fake: Nvml, given_back: list[Any]) -> Any:
    def find(**environ: str) -> list[Any]:
        found = nvml_sensors(fake, environ)
        given_back.extend(found)
        return found

    return find


def test_visible_devices_are_found_by_index_uuid_and_mig(sensors: Any) -> None:
    def keys(**environ: str) -> list[str]:
        return [sensor.key for sensor in sensors(**environ)]

    assert keys() == ["gpu:GPU-aa", "gpu:GPU-bb"]
    assert keys(CUDA_VISIBLE_DEVICES="1") == ["gpu:GPU-bb"]
    assert keys(CUDA_VISIBLE_DEVICES="GPU-a") == ["gpu:GPU-aa"]
    assert keys(CUDA_VISIBLE_DEVICES="MIG-x") == ["gpu:GPU-bb"]
    assert keys(CUDA_VISIBLE_DEVICES="MIG-y") == []
    assert keys(CUDA_VISIBLE_DEVICES="-1") == []
    assert keys(CUDA_VISIBLE_DEVICES="") == []
    assert [sensor.name for sensor in sensors()] == ["NVIDIA H100", "NVIDIA A100"]


def test_an_index_that_may_mean_another_gpu_is_noted(fake: Nvml, sensors: Any) -> None:
    (sensor,) = sensors(CUDA_VISIBLE_DEVICES="1")
    assert "CUDA_DEVICE_ORDER" in sensor.source
    for environ in (
        {},
        {"CUDA_VISIBLE_DEVICES": "GPU-a"},
        {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    ):
        assert "CUDA_DEVICE_ORDER" not in sensors(**environ)[0].source
    fake.names = ["NVIDIA H100", "NVIDIA H100"]
    assert "CUDA_DEVICE_ORDER" not in sensors(CUDA_VISIBLE_DEVICES="1")[0].source


def test_a_device_without_a_counter_has_its_power_integrated(fake: Nvml, sensors: Any) -> None:
    assert [type(sensor) for sensor in sensors()] == [NvmlCounter, NvmlCounter]
    for fake.millijoules, fake.fail in (
        (2**64 - 1, {}),
        (0, {COUNTER: error(pynvml.NVML_ERROR_NOT_SUPPORTED)}),
        (0, {COUNTER: error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)}),
    ):
        assert [type(sensor) for sensor in sensors()] == [NvmlPower, NvmlPower]
    fake.fail = {COUNTER: error(pynvml.NVML_ERROR_GPU_IS_LOST)}  # It may have one.
    assert [type(sensor) for sensor in sensors()] == [NvmlCounter, NvmlCounter]


def test_a_device_with_neither_says_so(fake: Nvml, sensors: Any) -> None:
    unsupported = error(pynvml.NVML_ERROR_NOT_SUPPORTED)
    fake.fail = {COUNTER: unsupported, "nvmlDeviceGetPowerUsage": unsupported}
    fake.instant = None
    with pytest.raises(SensorError, match="NVIDIA H100 has no energy counter"):
        sensors()[0].read()


def test_a_mig_mode_makes_it_shared(fake: Nvml, sensors: Any) -> None:
    assert sensors(CUDA_VISIBLE_DEVICES="MIG-x")[0].mig
    assert not sensors()[0].mig
    fake.mig = True
    assert sensors()[0].mig


def test_a_calibration_is_found_by_uuid_before_product_name(fake: Nvml, given_back: list[Any]) -> None:
    calibrations = {"GPU-aa": {"duty": 0.5}, "NVIDIA H100": {"duty": 0.6}, "NVIDIA A100": {"duty": 0.7}}
    given_back.extend(nvml_sensors(fake, {}, calibrations))
    assert [sensor.duty for sensor in given_back] == [0.5, 0.7]


def test_a_device_that_does_not_answer_hides_no_other(fake: Nvml, sensors: Any) -> None:
    fake.uuids.pop()
    first, second = sensors()
    assert (first.key, second.key) == ("gpu:GPU-aa", "gpu:index-1")
    first.read()
    with pytest.raises(SensorError, match="did not answer"):
        second.read()


@pytest.mark.parametrize("call", CALLS)
def test_every_error_of_every_call_is_a_sensor_error_or_a_weaker_figure(
    fake: Nvml, sensors: Any, call: str
) -> None:
    whole = Energy(5000.0, 4990.0, 5010.0, "measured", "counter")
    fake.utilization = []
    for code in CODES:
        fake.fail = {call: error(code)}
        if call in FATAL and not (call == COUNTER and code in (3, 13)):
            with pytest.raises(SensorError, match=r"NVML|NVIDIA|answer"):
                sensors()[0].read()
            continue
        sensor = sensors()[0]
        energy = sensor.ours(whole, sensor.read(), sensor.read())
        assert energy.joules == 5000
        assert energy.low <= 5000 <= energy.high
        assert sensor.duty > 0
        assert sensor.limit_watts > 0


def test_trouble_comes_with_its_remedy(fake: Nvml) -> None:
    fake.fail["nvmlInit"] = error(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    with pytest.raises(SensorError) as caught:
        nvml_sensors(fake, {})
    assert caught.value.remedy == "load the NVIDIA driver: sudo modprobe nvidia"


def test_nvml_is_started_once_and_given_back_with_the_last_sensor(fake: Nvml) -> None:
    first, second = nvml_sensors(fake, {})
    (again,) = nvml_sensors(fake, {"CUDA_VISIBLE_DEVICES": "0"})
    assert fake.started == 1
    for sensor in (first, first, second):
        sensor.close()
        assert fake.started == 1
    again.close()
    assert fake.started == 0
    nvml_sensors(fake, {"CUDA_VISIBLE_DEVICES": ""})
    assert fake.started == 0


def test_a_list_that_fails_gives_nvml_back(fake: Nvml) -> None:
    fake.fail["nvmlDeviceGetCount"] = error(pynvml.NVML_ERROR_UNKNOWN)
    with pytest.raises(SensorError, match="cannot be listed"):
        nvml_sensors(fake, {})
    assert fake.started == 0


def test_without_the_binding_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(SensorError, match="pip install nvidia-ml-py"):
        nvml_sensors()


def test_the_real_binding_is_used_by_default(
    monkeypatch: pytest.MonkeyPatch, fake: Nvml, given_back: list[Any]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    monkeypatch.setattr(nvml.os, "environ", {"CUDA_VISIBLE_DEVICES": "0"})
    given_back.extend(nvml_sensors())
    assert [sensor.key for sensor in given_back] == ["gpu:GPU-aa"]


def test_the_binding_is_not_imported_before_it_is_used() -> None:
    code = "import sys, titan_nb.energy.sensors.nvml; sys.exit('pynvml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
