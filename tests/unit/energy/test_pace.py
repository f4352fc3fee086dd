from __future__ import annotations

import pytest

from titan_nb.energy.pace import CRUISE_SECONDS, MIN_SECONDS, SEEK_SECONDS, Pace
from titan_nb.energy.steps import Step, Tick
from titan_nb.energy.ticks import TickClock


def learnt(period: float = 0.1) -> TickClock:
    clock = TickClock()
    for number in range(20):
        clock.observe(number * period - 0.001, number * period + 0.001)
    return clock


def a_step(at: float) -> Step:
    return Step(Tick(at - 0.2, at - 0.1, at - 0.1), Tick(at - 0.002, at, at), 5.0, 0.1)


def idle(pace: Pace, now: float, at_most: float | None = None) -> float:
    return pace.delay(now, wanted=False, open_since=None, at_most=at_most)


def test_of_an_unknown_counter_the_next_tick_is_sought_at_short_steps() -> None:
    pace = Pace(TickClock())
    assert pace.delay(0, wanted=True, open_since=None, at_most=None) == SEEK_SECONDS


def test_a_counter_that_does_not_move_is_looked_at_ever_more_seldom() -> None:
    pace, now, delays = Pace(TickClock()), 0.0, []
    for _ in range(300):
        pace.looked(now, None)
        delays.append(pace.delay(now, wanted=True, open_since=None, at_most=None))
        now += delays[-1]
    assert delays[0] == SEEK_SECONDS
    assert delays[-1] >= CRUISE_SECONDS
    pace.reset()
    assert pace.delay(now, wanted=True, open_since=None, at_most=None) == SEEK_SECONDS


def test_of_a_known_counter_the_look_is_shortly_before_the_next_tick() -> None:
    pace = Pace(learnt())
    pace.looked(1.92, None)
    assert 1.98 < 1.92 + pace.delay(1.92, wanted=True, open_since=None, at_most=None) < 2.0
    pace.looked(1.999, None)
    assert pace.delay(1.999, wanted=True, open_since=None, at_most=None) < SEEK_SECONDS


def test_one_that_ticks_faster_than_it_is_looked_at_needs_no_seeking() -> None:
    pace = Pace(TickClock())
    for number in range(10):
        pace.looked(number * SEEK_SECONDS, a_step(number * SEEK_SECONDS))
    now = 10 * SEEK_SECONDS
    assert pace.delay(now, wanted=True, open_since=None, at_most=None) == MIN_SECONDS
    assert pace.delay(now, wanted=False, open_since=now, at_most=None) >= CRUISE_SECONDS
    for number in range(10, 14):
        pace.looked(number * SEEK_SECONDS, None)
    assert pace.delay(now, wanted=True, open_since=None, at_most=None) == SEEK_SECONDS


def test_within_a_window_looks_fall_behind_ticks_and_become_rarer() -> None:
    pace = Pace(learnt())
    pace.looked(1.95, a_step(1.95))
    short = pace.delay(1.95, wanted=False, open_since=1.5, at_most=None)
    assert 0 < (1.95 + short) % 0.1 < 0.02
    assert short < 0.2
    assert 0.8 < pace.delay(1.95, wanted=False, open_since=-5000.0, at_most=None) <= 1.2
    assert pace.delay(1.95, wanted=False, open_since=-5000.0, at_most=0.05) == 0.05


def test_between_windows_the_phase_is_kept_and_then_the_device_is_let_sleep() -> None:
    pace = Pace(learnt())
    pace.looked(1.95, a_step(1.95))
    assert 0.5 < idle(pace, 1.95) <= 4.0
    assert idle(pace, 1.95 + 200) == 3600
    assert idle(pace, 1.95 + 200, at_most=130) == 130
    assert idle(pace, 1.95 + 200, at_most=0.05) == 5.0


@pytest.mark.parametrize(("period", "patience"), [(0.1, 1.0), (0.5, 2.5)])
def test_the_last_tick_is_waited_for_only_so_long(period: float, patience: float) -> None:
    assert Pace(learnt(period)).patience == pytest.approx(patience)
    assert Pace(TickClock()).patience == 1.0
