from __future__ import annotations

import math

import pytest

from titan_nb.energy.sensors import Reading
from titan_nb.energy.steps import Steps
from titan_nb.energy.ticks import TickClock
from titan_nb.errors import SensorError


def test_a_counter_that_stands_still_gives_no_step() -> None:
    steps = Steps(TickClock())
    assert steps.add(Reading(1, 5.0)) is None
    assert steps.add(Reading(2, 5.0)) is None
    assert steps.last == Reading(2, 5.0)


def test_a_step_lies_between_the_looks_that_showed_it() -> None:
    steps = Steps(TickClock())
    steps.add(Reading(1, 5.0, (), 0.1))
    steps.add(Reading(2, 5.0, (), 0.1))
    first = steps.add(Reading(3, 8.0, (), 0.1))
    assert first is not None
    assert first.joules == 3
    assert first.begin.earliest == -math.inf
    assert first.begin.latest == 1.1
    assert (first.end.earliest, first.end.latest, first.end.at) == (1.9, 3.1, 2.5)
    second = steps.add(Reading(4, 9.0, (), 0.1))
    assert second is not None
    assert second.begin == first.end


def test_lengths_are_whole_periods_once_the_period_is_known() -> None:
    steps = Steps(TickClock())
    last = None
    for number in range(100):
        at = number * 0.01
        last = steps.add(Reading(at, math.floor(at / 0.1 + 1e-9) * 7.0)) or last
    late = steps.add(Reading(1.2501, 7.0 * 12))
    assert late is not None
    assert late.seconds == pytest.approx(0.3, rel=0.01)
    assert late.end.at == pytest.approx(1.2, abs=0.01)


@pytest.mark.parametrize(("value", "why"), [(4.0, "backwards"), (1e9, "jumped")])
def test_a_reset_is_told_and_counted_from(value: float, why: str) -> None:
    steps = Steps(TickClock())
    steps.add(Reading(1, 5.0))
    with pytest.raises(SensorError, match=why):
        steps.add(Reading(2, value))
    after = steps.add(Reading(3, value + 2))
    assert after is not None
    assert after.joules == 2


def test_two_readings_of_one_moment_are_in_order() -> None:
    steps = Steps(TickClock())
    steps.add(Reading(1, 5.0))
    assert steps.add(Reading(1, 5.0)) is None
    step = steps.add(Reading(1, 6.0))
    assert step is not None
    assert step.joules == 1
    assert step.end.earliest <= step.end.at <= step.end.latest
