from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from titan_nb.energy.sensors import Reading, apple
from titan_nb.energy.sensors.apple import AppleSensor, apple_sensors
from titan_nb.errors import SensorError
from titan_nb.host import boot_id
from titan_nb.records import Energy

FIELDS = (
    "cpu_total_mj",
    "efficiency_cores_mj",
    "performance_cores_mj",
    "efficiency_cluster_mj",
    "performance_cluster_mj",
    "efficiency_core_manager_mj",
    "performance_core_manager_mj",
    "dram_mj",
    "gpu_mj",
    "gpu_sram_mj",
    "ane_mj",
)


class Chip(ModuleType):
    """What zeus_apple_silicon 1.1 gives: a monitor whose metrics are None where the chip has no counter."""

    def __init__(self, **millijoules: Any) -> None:
        super().__init__("zeus_apple_silicon")
        self.now = dict.fromkeys(FIELDS) | millijoules
        self.looks = 0
        self.broken = ""

    def AppleEnergyMonitor(self) -> Monitor:
        if self.broken:
            raise RuntimeError(self.broken)
        return Monitor(self)


class Monitor:
    def __init__(self, chip: Chip) -> None:
        self._chip = chip

    def get_cumulative_energy(self) -> Any:
        if self._chip.broken:
            raise RuntimeError(self._chip.broken)
        self._chip.looks += 1
        metrics = ModuleType("metrics")
        for name, value in self._chip.now.items():
            setattr(metrics, name, value)
        return metrics


@pytest.fixture
def chip() -> Chip:
    cores = {"efficiency_cores_mj": [1, 2], "performance_cores_mj": [3, 4], "efficiency_cluster_mj": [5]}
    return Chip(cpu_total_mj=10_000, dram_mj=2_000, gpu_mj=5_000, gpu_sram_mj=500, ane_mj=0, **cores)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(apple.time, "perf_counter", clock)
    return clock


def by_name(chip: Chip) -> dict[str, AppleSensor]:
    return {sensor.name: sensor for sensor in apple_sensors(chip)}


def test_each_part_of_the_chip_is_a_device(chip: Chip) -> None:
    boot = boot_id()
    found = {sensor.name: (sensor.key, sensor.read().value) for sensor in apple_sensors(chip)}
    assert found == {
        "Apple CPU": (f"cpu:{boot}:soc", 10.0),
        "memory of the Apple chip": (f"dram:{boot}:soc", 2.0),
        "Apple GPU": (f"gpu:soc-{boot}", 5.5),
        "Apple Neural Engine": (f"ane:{boot}:soc", 0.0),
    }


def test_a_part_without_a_counter_is_left_out() -> None:
    chip = Chip(cpu_total_mj=1, gpu_mj=2_000)  # M5: no GPU SRAM
    found = by_name(chip)
    assert list(found) == ["Apple CPU", "Apple GPU"]
    assert found["Apple GPU"].read().value == 2.0


def test_all_parts_share_one_look(chip: Chip, clock: Clock) -> None:
    sensors = apple_sensors(chip)
    looks = chip.looks
    clock.now += 1.0
    readings = [sensor.read() for sensor in sensors]
    assert chip.looks == looks + 1
    assert {reading.at for reading in readings} == {101.0}
    clock.now += 0.01
    chip.now["cpu_total_mj"] = 10_500
    assert sensors[0].read().value == 10.5


def test_the_cpu_is_charged_by_share_the_gpu_as_a_whole(chip: Chip) -> None:
    sensors = by_name(chip)
    whole = Energy(100.0, 90.0, 110.0, "measured", "counter")
    begin, end = Reading(0.0, 0.0, (0, 0, 0)), Reading(10.0, 100.0, (2, 2, 8))
    for name in ("Apple CPU", "memory of the Apple chip"):
        energy = sensors[name].ours(whole, begin, end)
        assert (energy.joules, energy.high, energy.grade) == (25, 110, "modelled")
        assert "share of the machine's CPU time" in sensors[name].source
    for name in ("Apple GPU", "Apple Neural Engine"):
        energy = sensors[name].ours(whole, begin, end)
        assert (energy.joules, energy.low, energy.high, energy.grade) == (100, 0, 110, "modelled")


def test_it_is_a_counter_without_power(chip: Chip) -> None:
    sensor = apple_sensors(chip)[0]
    assert (sensor.blocking, sensor.counter, sensor.duty, sensor.watts_now()) == (True, True, 1.0, None)
    sensor.close()


def test_a_chip_that_cannot_be_read_is_an_error_and_comes_back(chip: Chip, clock: Clock) -> None:
    chip.broken = "Failed to create IOReport subscription."
    with pytest.raises(SensorError, match="Failed to create IOReport"):
        apple_sensors(chip)
    chip.broken = ""
    sensor = apple_sensors(chip)[0]
    clock.now += 1.0
    chip.broken = "Failed to convert CFString to std::string"
    with pytest.raises(SensorError, match="CFString"):
        sensor.read()
    chip.broken = ""
    assert sensor.read().value == 10.0
    clock.now += 1.0
    chip.now["cpu_total_mj"] = None
    with pytest.raises(SensorError, match="Apple CPU any more"):
        sensor.read()


def test_without_the_package_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, chip: Chip) -> None:
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", None)
    with pytest.raises(SensorError) as caught:
        apple_sensors()
    assert caught.value.remedy == 'pip install "titan_nb[apple]"'
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", chip)
    assert len(apple_sensors()) == 4
