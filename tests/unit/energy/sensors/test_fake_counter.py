"""The counter of `FakeSensor`: its ticks, its part-time power, and that both agree with its true energy."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan_nb.energy.sensors import Counter
from titan_nb.energy.sensors.fake import FakeSensor
from titan_nb.errors import SensorError
from titan_nb.records import Energy


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


TICKS = st.fixed_dictionaries(
    {
        "tick_seconds": st.floats(0.015, 0.12),
        "tick_phase_seconds": st.floats(0, 0.2),
        "seed": st.integers(0, 2**32),
    }
)
JITTER = st.floats(0.001, 0.007)
LOADS = st.lists(st.tuples(st.floats(0.0, 0.5), st.floats(0, 700)), min_size=1, max_size=20)


def ticks(sensor: FakeSensor, clock: Clock, until: float) -> list[float]:
    """Return when the sensor ticks, found by asking it alone."""
    found = [sensor._tick_at(tick) for tick in range(sensor._last_tick(until) + 1)]
    assert found == sorted(set(found))
    return found


def test_it_is_a_counter(clock: Any) -> None:
    sensor: Counter = FakeSensor(watts=70, clock=clock)
    assert (sensor.counter, sensor.duty, sensor.limit_watts, sensor.watts_now()) == (True, 1.0, 70, 70)
    whole = Energy(1.0, 0.5, 2.0, "measured", "test")
    assert sensor.ours(whole, sensor.read(), sensor.read()) is whole


def test_the_limit_is_raised_when_it_draws_more(clock: Any) -> None:
    sensor = FakeSensor(watts=70, clock=clock, limit_watts=300)
    assert sensor.limit_watts == 300
    sensor.watts = 200
    assert sensor.limit_watts == 300
    sensor.watts = 400
    assert sensor.limit_watts == 400


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tick_seconds": 0.1, "jitter_seconds": 0.05}, "half of tick_seconds"),
        ({"jitter_seconds": 0.01}, "half of tick_seconds"),
        ({"tick_seconds": 0.1, "duty": 0.0}, "above 0"),
        ({"tick_seconds": 0.1, "duty": 1.1}, "at most 1"),
        ({"duty": 0.25}, "only with tick_seconds"),
    ],
)
def test_a_counter_that_cannot_be_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FakeSensor(**wrong)  # type: ignore[arg-type]


def test_the_first_tick_comes_at_the_phase(clock: Any) -> None:
    sensor = FakeSensor(watts=100, clock=clock, tick_seconds=0.5, tick_phase_seconds=0.25)
    clock.now = 1000.2
    assert sensor.read().value == 0
    clock.now = 1000.25
    assert sensor.read().value == 25
    clock.now = 1000.7
    assert sensor.read().value == 25
    clock.now = 1000.75
    assert sensor.read().value == 75


def test_a_part_time_tick_counts_the_mean_of_its_last_part(clock: Any) -> None:
    sensor = FakeSensor(watts=0, clock=clock, tick_seconds=1.0, duty=0.25)
    clock.now = 1000.5
    sensor.watts = 100  # from the middle of the tick, so all of its last quarter
    clock.now = 1001.0
    assert sensor.read().value == pytest.approx(100)
    clock.now = 1001.75
    sensor.watts = 0  # three quarters of the second tick, and nothing of its last quarter
    clock.now = 1002.5
    assert sensor.read().value == pytest.approx(100)
    assert sensor.true_joules(1000, 1002) == pytest.approx(125)


def test_a_clock_that_stands_still_or_a_tick_that_was_seen_changes_nothing(clock: Any) -> None:
    sensor = FakeSensor(watts=40, clock=clock, tick_seconds=0.5, duty=0.5)
    clock.now = 1001.2
    assert sensor.read().value == sensor.read().value == pytest.approx(40)
    assert FakeSensor(clock=clock).true_joules(0, 1001.2) == 0


@given(options=TICKS, jitter=JITTER, loads=LOADS, late=st.floats(0, 0.3))
def test_the_increments_are_the_true_energy_between_the_ticks(
    options: dict[str, Any], jitter: float, loads: list[tuple[float, float]], late: float
) -> None:
    clock = Clock()
    sensor = FakeSensor(watts=70, clock=clock, jitter_seconds=jitter, **options)
    readings = [sensor.read()]
    for seconds, watts in loads:
        clock.now += seconds
        readings.append(sensor.read())
        sensor.watts = watts
    clock.now += late
    readings.append(sensor.read())
    moments = [1000.0, *ticks(sensor, clock, clock.now)]
    for earlier, later in itertools.pairwise(readings):
        assert later.value >= earlier.value
        first, last = (max(at for at in moments if at <= read.at) for read in (earlier, later))
        assert later.value - earlier.value == pytest.approx(sensor.true_joules(first, last), abs=1e-9)


@given(options=TICKS, jitter=JITTER)
def test_jitter_keeps_each_tick_near_its_place_and_is_the_same_for_the_same_seed(
    options: dict[str, Any], jitter: float
) -> None:
    clock = Clock()
    made = [FakeSensor(clock=clock, jitter_seconds=jitter, **options) for _ in range(2)]
    first, second = (ticks(sensor, clock, 1010) for sensor in made)
    assert first == second
    for number, at in enumerate(first):
        place = 1000 + options["tick_phase_seconds"] + number * options["tick_seconds"]
        assert abs(at - place) <= jitter + 1e-9
    spread = [at - 1000 - number * options["tick_seconds"] for number, at in enumerate(first[5:], 5)]
    assert max(spread) - min(spread) > jitter


@given(
    options=TICKS,
    jitter=st.one_of(st.just(0.0), JITTER),
    duty=st.floats(0.05, 0.95),
    loads=LOADS,
    reads=st.lists(st.booleans(), min_size=20, max_size=20),
)
def test_a_part_time_counter_is_the_sum_over_its_ticks_however_it_is_read(
    options: dict[str, Any],
    jitter: float,
    duty: float,
    loads: list[tuple[float, float]],
    reads: list[bool],
) -> None:
    clock = Clock()
    sensor = FakeSensor(watts=70, clock=clock, jitter_seconds=jitter, duty=duty, **options)
    value = 0.0
    for (seconds, watts), read in zip(loads, reads, strict=False):
        clock.now += seconds
        if read:
            value, before = sensor.read().value, value
            assert value >= before
        sensor.watts = watts
    clock.now += 0.3
    expected, begin = 0.0, 1000.0
    for end in ticks(sensor, clock, clock.now):
        expected += sensor.true_joules(end - duty * (end - begin), end) / duty
        begin = end
    assert sensor.read().value == pytest.approx(expected, abs=1e-6)


def test_ten_days_of_ticks_are_counted_at_once(clock: Any) -> None:
    sensor = FakeSensor(watts=70, clock=clock, tick_seconds=0.1, jitter_seconds=0.01, duty=0.25)
    begin = time.process_time()
    for _ in range(10):
        clock.now += 86_400
        sensor.read()
        sensor.watts = 700 - sensor.watts
    assert time.process_time() - begin < 1
    assert sensor.read().value == pytest.approx(sensor.true_joules(1000, clock.now), rel=1e-6)


def test_a_shared_seed_is_not_a_shared_tick() -> None:
    clock = Clock()
    ticks_of = [
        ticks(FakeSensor(clock=clock, tick_seconds=0.1, jitter_seconds=0.02, seed=seed), clock, 1002)
        for seed in (1, 2)
    ]
    assert ticks_of[0] != ticks_of[1]
    assert not math.isclose(ticks_of[0][3] - ticks_of[0][2], 0.1, abs_tol=1e-4)


def test_the_example_of_the_docstring_runs(capsys: pytest.CaptureFixture[str]) -> None:
    lines = (FakeSensor.__doc__ or "").split("::\n\n")[1].split("\n\n")[0]
    code = "\n".join(line.strip() for line in lines.splitlines()).replace("sleep(1)", "sleep(0.15)")
    exec(code, {"FakeSensor": FakeSensor, "time": time})
    assert "joules" in capsys.readouterr().out


def test_as_a_model_it_gives_the_difference_of_two_readings_and_refuses_one_that_falls(clock: Any) -> None:
    sensor = FakeSensor(watts=50, clock=clock, counter=False)
    begin = sensor.read()
    clock.now += 2
    end = sensor.read()
    energy = sensor.energy(begin, end, begin.at, end.at)
    assert (energy.joules, energy.grade) == (100, "modelled")
    with pytest.raises(SensorError, match="backwards"):
        sensor.energy(end, begin, begin.at, end.at)
