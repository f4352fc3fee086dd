from __future__ import annotations

import random
from typing import Any

import pytest

from titan_nb.energy.bracket import bracket
from titan_nb.energy.sensors import Reading
from titan_nb.energy.sensors.fake import FakeSensor
from titan_nb.errors import SensorError
from titan_nb.records import Energy


def make(
    begin: tuple[float, float], end: tuple[float, float], started: float, ended: float, tick: float = 0.1
) -> Energy:
    return bracket(
        Reading(*begin), Reading(*end), started, ended, limit_watts=100.0, tick_seconds=tick, source="c"
    )


def test_readings_on_the_edges_are_widened_by_one_tick_on_either_side() -> None:
    assert make((0, 5), (10, 505), 0, 10) == Energy(500, 490, 510, "measured", "c")


def test_a_late_begin_may_have_missed_energy_and_an_early_one_may_have_too_much() -> None:
    assert make((2, 0), (10, 500), 0, 10).high == pytest.approx(500 + 100 * 2.1)
    assert make((2, 0), (10, 500), 0, 10).low == pytest.approx(490)
    assert make((-2, 0), (10, 500), 0, 10).low == pytest.approx(500 - 100 * 2.1)
    assert make((-2, 0), (10, 500), 0, 10).high == pytest.approx(510)


def test_a_late_end_may_have_too_much_and_an_early_one_may_have_missed_energy() -> None:
    assert make((0, 0), (12, 500), 0, 10).low == pytest.approx(500 - 100 * 2.1)
    assert make((0, 0), (9, 500), 0, 10).high == pytest.approx(500 + 100 * 1.1)


def test_the_lower_end_is_never_below_zero() -> None:
    assert make((0, 0), (1, 3), 0, 1).low == 0


def test_a_window_shorter_than_a_tick_is_an_upper_bound() -> None:
    energy = make((0, 0), (0.05, 0), 0, 0.05)
    assert (energy.joules, energy.low, energy.high, energy.grade) == (0, 0, pytest.approx(10), "bounded")
    assert "shorter than a tick" in energy.source
    assert make((0, 0), (0.1, 0), 0, 0.1).grade == "measured"


def test_a_counter_that_goes_backwards_is_an_error() -> None:
    with pytest.raises(SensorError, match="backwards"):
        make((0, 5), (1, 4), 0, 1)


def test_the_interval_holds_the_truth_at_every_phase_length_and_lateness(
    clock: Any,
) -> None:
    rng = random.Random(7)
    for _ in range(1000):
        sensor = FakeSensor(watts=70.0, clock=clock, tick_seconds=rng.uniform(0.01, 0.12))
        clock.now += rng.uniform(0, 0.5)
        started = clock.now + rng.uniform(-0.02, 0.02)
        begin = sensor.read()
        for _ in range(3):
            clock.now += rng.uniform(0, 0.3)
            sensor.watts = rng.uniform(0, 700)
        sensor.watts = 700.0
        clock.now += rng.uniform(0.03, 0.3)
        ended = clock.now + rng.uniform(-0.02, 0.0)
        end = sensor.read()
        truth = sensor.true_joules(started, ended)
        energy = sensor.energy(begin, end, started, ended)
        assert energy.low is not None
        assert energy.high is not None
        assert energy.low - 1e-9 <= truth <= energy.high + 1e-9
