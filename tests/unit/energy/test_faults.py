from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from titan_nb.energy import FakeSensor
from titan_nb.energy.faults import Faults, checked_energy, checked_reading
from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.records import Energy


@pytest.mark.parametrize(
    "reading",
    [
        None,
        1.0,
        Reading(0, "1"),
        Reading(0, None),
        Reading(0, True),
        Reading(0, math.nan),
        Reading(0, math.inf),
        Reading(0, -1.0),
        Reading(0, 1e30),
        Reading(math.nan, 1.0),
    ],
)
def test_nonsense_is_no_reading(reading: Any) -> None:
    with pytest.raises(SensorError):
        checked_reading(reading)


@pytest.mark.parametrize("value", [0, 1.5, np.float32(1.5), np.int64(3), Fraction(1, 2)])
def test_every_kind_of_number_is_one(value: Any) -> None:
    reading = checked_reading(Reading(1.0, value, (2.0,)))
    assert type(reading.value) is float
    assert reading == Reading(1.0, float(value), (2.0,))


def energy(joules: Any, low: Any, high: Any) -> Energy:
    return Energy(joules, low, high, "measured", "s")


@pytest.mark.parametrize(
    "bad",
    [
        "5 J",
        energy(1.0, None, 2.0),
        energy(1.0, 0.0, None),
        energy(1.0, 2.0, 3.0),
        energy(4.0, 2.0, 3.0),
        energy(-1.0, -2.0, 3.0),
        energy(1.0, 0.0, math.inf),
        energy(math.nan, 0.0, 1.0),
        energy(1e9, 0.0, 1e9),
    ],
)
def test_nonsense_is_no_energy(bad: Any) -> None:
    with pytest.raises(SensorError):
        checked_energy(bad, 1.0)


def test_a_whole_tick_in_a_short_window_is_energy() -> None:
    good = energy(70.0, 0.0, 154.0)
    assert checked_energy(good, 0.0001) is good
    unknown = Energy.unknown("why")
    assert checked_energy(unknown, 1.0) is unknown


def test_one_warning_per_kind_for_ever_and_each_is_carried_once() -> None:
    faults = Faults()
    assert faults.take() == ()
    for _ in range(100):
        faults.add("read", "a")
        faults.add("hung", "b")
    assert faults.take() == ("a", "b")
    faults.add("read", "c")
    assert faults.take() == ()


def test_whatever_a_sensor_raises_becomes_the_reason() -> None:
    sensor = FakeSensor(faults=["raise", "base exception", "memory error", "nan"])
    faults = Faults()
    reasons = [faults.read(sensor) for _ in range(4)]
    assert reasons[0] == "a simulated fault"
    assert "failed with _SimulatedFault" in str(reasons[1])
    assert "failed with MemoryError" in str(reasons[2])
    assert "makes no sense" in str(reasons[3])
    assert faults.take() == ("energy of simulated device is unknown: a simulated fault",)
    assert isinstance(faults.read(sensor), Reading)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_is_the_users(error: type[BaseException]) -> None:
    def interrupt() -> None:
        raise error

    with pytest.raises(error):
        Faults().guard("read", "x", interrupt)


def test_a_counter_that_went_backwards_is_unknown() -> None:
    faults, sensor = Faults(), FakeSensor()
    result = faults.energy(sensor, Reading(0, 5.0), Reading(1, 4.0), 0, 1)
    assert result == Energy.unknown("the counter went backwards")
    assert faults.take() == ("energy of simulated device is unknown: the counter went backwards",)
