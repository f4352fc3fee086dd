from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from titan_nb.energy.sensors import integral
from titan_nb.energy.sensors.integral import REFRESH_SECONDS, PowerIntegral
from titan_nb.errors import SensorError
from titan_nb.records import Energy


class Device:
    """A clock, and a power that depends on it."""

    def __init__(self, watts: Callable[[float], float]) -> None:
        self.now = 0.0
        self.watts = watts

    def sensor(self) -> PowerIntegral:
        return PowerIntegral("gpu:x", "GPU", "power of GPU", lambda: self.watts(self.now), limit_watts=300)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device(lambda now: 100.0)
    monkeypatch.setattr(integral.time, "perf_counter", lambda: device.now)
    return device


def test_a_constant_power_is_power_times_time_without_doubt(device: Device) -> None:
    sensor = device.sensor()
    begin = sensor.read()
    for _ in range(50):
        device.now += REFRESH_SECONDS
        end = sensor.read()
    assert end.value - begin.value == pytest.approx(100 * 5.0)
    assert end.extra == (0.0, 0.0)
    assert sensor.watts_now() == 100


def test_a_step_is_within_the_doubt(device: Device) -> None:
    truth, at = 0.0, 0.25
    device.watts = lambda now: 50.0 if now < at else 250.0
    sensor = device.sensor()
    assert sensor.watts_now() is None
    begin = sensor.read()
    for _ in range(10):
        device.now += REFRESH_SECONDS
        end = sensor.read()
    truth = 50 * at + 250 * (1.0 - at)
    doubt = end.extra[0] - begin.extra[0]
    assert doubt == pytest.approx(200 / 2 * REFRESH_SECONDS)
    assert abs(end.value - begin.value - truth) <= doubt


def test_ours_is_the_whole_with_the_doubt_on_top(device: Device) -> None:
    sensor = device.sensor()
    begin = sensor.read()
    device.now, device.watts = REFRESH_SECONDS, lambda now: 200.0
    end = sensor.read()
    energy = sensor.ours(Energy(15.0, 15.0, 16.0, "measured", "counter"), begin, end)
    assert (energy.joules, energy.low, energy.grade) == (15, 0, "shared")
    assert energy.high == pytest.approx(16 + 5)
    assert "power of GPU, summed up" in sensor.source
    unknown = Energy.unknown("gone")
    assert sensor.ours(unknown, begin, end) is unknown


def test_what_nobody_read_is_unknown(device: Device) -> None:
    sensor = device.sensor()
    begin = sensor.read()
    device.now += 3600
    end = sensor.read()
    assert end.value == begin.value, "an hour between two readings is not a straight line"
    assert sensor.ours(Energy(0.0, 0.0, 0.0, "measured", "counter"), begin, end).grade == "unknown"


@pytest.mark.parametrize("watts", [-1.0, math.nan, math.inf, 1e9])
def test_an_impossible_power_is_an_error_and_adds_nothing(device: Device, watts: float) -> None:
    sensor = device.sensor()
    first = sensor.read()
    device.watts = lambda now: watts
    device.now += 0.1
    with pytest.raises(SensorError, match="cannot be"):
        sensor.read()
    device.watts = lambda now: 100.0
    device.now += 0.1
    assert sensor.read().value - first.value == pytest.approx(20)


def test_a_power_that_cannot_be_read_is_an_error(device: Device) -> None:
    def fail(now: float) -> float:
        raise OSError("No such device")

    device.watts = fail
    sensor = device.sensor()
    with pytest.raises(SensorError, match="GPU cannot be read: No such device"):
        sensor.read()
    sensor.close()
