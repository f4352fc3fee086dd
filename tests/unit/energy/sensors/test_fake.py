from __future__ import annotations

import inspect
import math
from typing import Any

import pytest

from titan_nb.energy import FakeSensor
from titan_nb.energy.sensors import fake
from titan_nb.errors import SensorError


def test_it_says_that_it_is_simulated() -> None:
    assert "simulated" in inspect.getsource(fake)
    assert "simulated" in FakeSensor().source


def test_it_counts_exactly_what_the_device_draws(clock: Any) -> None:
    sensor = FakeSensor(watts=50, clock=clock)
    begin = sensor.read()
    clock.now += 2
    sensor.watts = 200
    clock.now += 1
    end = sensor.read()
    assert end.value - begin.value == 300
    assert sensor.true_joules(1001, 1003) == 250
    assert sensor.true_joules(0, 1003) == 300
    assert sensor.energy(begin, end, 1000, 1003).joules == 300
    assert sensor.watts == 200


def test_ticks_hold_the_counter_back(clock: Any) -> None:
    sensor = FakeSensor(watts=100, clock=clock, tick_seconds=0.5)
    clock.now += 0.75
    assert sensor.read().value == pytest.approx(50)


def test_the_script_of_faults_is_followed_and_then_all_is_well(clock: Any) -> None:
    slept = []
    sensor = FakeSensor(
        clock=clock,
        faults=[
            "raise",
            "base exception",
            "memory error",
            "hang",
            "nan",
            "inf",
            "negative",
            "wrong type",
            "huge",
        ],
        blocking=True,
        hang_seconds=7,
        sleep=slept.append,
    )
    with pytest.raises(SensorError):
        sensor.read()
    with pytest.raises(BaseException, match=r"^$") as caught:
        sensor.read()
    assert not isinstance(caught.value, Exception)
    with pytest.raises(MemoryError):
        sensor.read()
    sensor.read()
    assert slept == [7]
    assert math.isnan(sensor.read().value)
    assert [sensor.read().value for _ in range(4)] == [math.inf, -1.0, "1", 1e30]
    assert sensor.read().value == 0
    assert sensor.reads == 10


def test_a_reset_starts_the_counter_again(clock: Any) -> None:
    sensor = FakeSensor(clock=clock, faults=[None, "reset"])
    clock.now += 1
    assert sensor.read().value == 100
    assert sensor.read().value == 0


def test_a_cell_is_never_hung() -> None:
    with pytest.raises(ValueError, match="blocking=True"):
        FakeSensor(faults=["hang"])


def test_close_is_noted() -> None:
    sensor = FakeSensor()
    sensor.close()
    assert sensor.closed
