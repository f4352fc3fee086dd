from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.energy.bracket import MAX_WATTS
from titan_nb.energy.sensors import amd as module_under_test
from titan_nb.energy.sensors.amd import amd_sensors
from titan_nb.energy.sensors.integral import PowerIntegral
from titan_nb.energy.sensors.zeus import ZeusSensor
from titan_nb.errors import SensorError
from titan_nb.host import boot_id
from titan_nb.records import Energy

BOOT = boot_id()
WHOLE = Energy(100.0, 90.0, 110.0, "measured", "counter")


class NotSupported(Exception):
    """As zeus raises it for what a model does not have."""


class Gpu:
    """One of zeus's AMDGPU: energy and power in thousandths, and whether the counter passed its check."""

    def __init__(self, index: int, *, counter: bool = True, instant: bool = True) -> None:
        self.gpu_index = index
        self.counter = counter
        self.instant = instant
        self.energy_mj = 5_000
        self.lost = False

    def get_name(self) -> str:
        return "AMD Instinct MI300X"

    def get_power_management_limit(self) -> int:
        return 750_000

    def supports_get_total_energy_consumption(self) -> bool:
        return self.counter

    def get_total_energy_consumption(self) -> int:
        if self.lost:
            raise NotSupported("the GPU is gone")
        return self.energy_mj

    def get_instant_power_usage(self) -> int:
        if not self.instant:
            raise NotSupported("no instant power")
        return 300_000

    def get_average_power_usage(self) -> int:
        if self.lost:
            raise NotSupported("no power")
        return 200_000


class Nameless(Gpu):
    def get_name(self) -> str:
        raise NotSupported("no name")


def module(*gpus: Gpu, error: Exception | None = None) -> Any:
    def make() -> Any:
        if error is not None:
            raise error
        return SimpleNamespace(gpus=list(gpus))

    return SimpleNamespace(AMDGPUs=make)


def test_an_amd_gpu_is_read_by_its_counter() -> None:
    gpu = Gpu(3)
    (sensor,) = amd_sensors(module(gpu), {})
    assert isinstance(sensor, ZeusSensor)
    assert (sensor.key, sensor.name) == (f"gpu:amd3-{BOOT}", "AMD Instinct MI300X")
    assert (sensor.limit_watts, sensor.duty) == (750, 1.0)
    assert sensor.read().value == 5.0
    assert sensor.watts_now() == 300
    energy = sensor.ours(WHOLE, sensor.read(), sensor.read())
    assert (energy.joules, energy.low, energy.high, energy.grade) == (100, 0, 110, "shared")
    sensor.close()


def test_a_counter_that_disagrees_with_the_power_is_not_used() -> None:
    (sensor,) = amd_sensors(module(Gpu(0, counter=False, instant=False)), {})
    assert isinstance(sensor, PowerIntegral)
    sensor.read()
    assert sensor.watts_now() == 200
    assert "power of AMD Instinct MI300X, summed up" in sensor.source


def test_a_gpu_without_name_or_power_has_a_wide_limit() -> None:
    gpu = Nameless(1, instant=False)
    gpu.lost = True
    (sensor,) = amd_sensors(module(gpu), {})
    assert (sensor.name, sensor.limit_watts) == ("AMD GPU 1", MAX_WATTS)
    assert sensor.watts_now() is None
    with pytest.raises(SensorError, match="AMD GPU 1 cannot be read: the GPU is gone"):
        sensor.read()
    gpu.lost = False
    assert sensor.read().value == 5.0


@pytest.mark.parametrize(
    "environ", [{"HIP_VISIBLE_DEVICES": ""}, {"HIP_VISIBLE_DEVICES": "-1"}, {"CUDA_VISIBLE_DEVICES": " "}]
)
def test_no_visible_gpu_is_no_sensor(environ: dict[str, str]) -> None:
    assert amd_sensors(module(error=AssertionError()), environ) == []


def test_hip_goes_before_cuda() -> None:
    environ = {"HIP_VISIBLE_DEVICES": "0", "CUDA_VISIBLE_DEVICES": ""}
    assert len(amd_sensors(module(Gpu(0)), environ)) == 1


@pytest.mark.parametrize(
    ("error", "remedy"),
    [(ValueError("invalid literal for int(): 'GPU-1a'"), "HIP_VISIBLE_DEVICES"), (NotSupported("boom"), "")],
)
def test_gpus_that_cannot_be_listed_are_an_error(error: Exception, remedy: str) -> None:
    with pytest.raises(SensorError, match="cannot be listed") as caught:
        amd_sensors(module(error=error), {})
    assert remedy in caught.value.remedy


def test_without_the_library_of_amd_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "amd_library", lambda: False)
    with pytest.raises(SensorError, match=r"libamd_smi\.so is not installed"):
        amd_sensors(environ={})


def test_with_the_library_but_without_zeus_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "amd_library", lambda: True)
    monkeypatch.setitem(sys.modules, "zeus", None)
    with pytest.raises(SensorError) as caught:
        amd_sensors(environ={})
    assert caught.value.remedy == 'pip install "titan_nb[zeus]"'
