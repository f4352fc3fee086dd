from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.energy.sensors.jetson import jetson_sensors
from titan_nb.errors import SensorError
from titan_nb.host import boot_id

BOOT = boot_id()


class Rail:
    def __init__(self, milliwatts: float) -> None:
        self.milliwatts = milliwatts

    def measure_power(self) -> float:
        return self.milliwatts


def jetson(**rails: float) -> Any:
    class Jetson:
        def __init__(self) -> None:
            raise AssertionError("this starts a child process")

        def _discover_available_metrics(self) -> dict[str, Rail]:
            return {name: Rail(value) for name, value in rails.items()}

    return SimpleNamespace(Jetson=Jetson)


def test_the_rail_of_the_whole_module_goes_before_its_parts() -> None:
    (sensor,) = jetson_sensors(jetson(total_power_mw=15_000, cpu_power_mw=4_000, gpu_power_mw=6_000))
    assert (sensor.key, sensor.name) == (f"cpu:{BOOT}:module", "Jetson module")
    sensor.read()
    assert sensor.watts_now() == 15


def test_without_such_a_rail_the_parts_are_read() -> None:
    found = {sensor.key: sensor for sensor in jetson_sensors(jetson(cpu_power_mw=4_000, gpu_power_mw=6_000))}
    assert list(found) == [f"cpu:{BOOT}:rail", f"gpu:rail-{BOOT}"]
    for sensor in found.values():
        sensor.read()
    assert [sensor.watts_now() for sensor in found.values()] == [4, 6]
    assert jetson_sensors(jetson()) == []


def test_another_zeus_is_an_error() -> None:
    with pytest.raises(SensorError, match="power rails of this Jetson cannot be found"):
        jetson_sensors(SimpleNamespace(Jetson=object))


def test_without_zeus_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zeus", None)
    with pytest.raises(SensorError) as caught:
        jetson_sensors()
    assert caught.value.remedy == 'pip install "titan_nb[zeus]"'
