from __future__ import annotations

import math
import random

import pytest

from titan_nb.energy.ticks import TickClock


def looked(
    clock: TickClock, ticks: list[float], width: float = 0.002, rng: random.Random | None = None
) -> None:
    """Show the clock some ticks between two looks each."""
    rng = rng or random.Random(1)
    for tick in ticks:
        before = rng.uniform(0, width)
        clock.observe(tick - before, tick + width - before)


def test_nothing_is_assumed() -> None:
    clock = TickClock()
    assert clock.period is None
    assert clock.last is None
    assert clock.expect(0) is None
    assert clock.known_for(0.2) == 0
    assert clock.locate(1, 3) == 2
    assert clock.locate(-math.inf, 3) == 3


@pytest.mark.parametrize("period", [0.015, 0.02, 0.1, 0.12])
@pytest.mark.parametrize("jitter", [0.0, 0.02])
def test_period_and_phase_are_learnt(period: float, jitter: float) -> None:
    rng, clock = random.Random(3), TickClock()
    ticks = [5 + number * period + rng.gauss(0, jitter * period) for number in range(200)]
    looked(clock, ticks, 0.002, rng)
    assert clock.period == pytest.approx(period, rel=0.005)
    expected = clock.expect(ticks[-1] + 0.5 * period)
    assert expected is not None
    assert abs(expected.at - (5 + 200 * period)) <= expected.sigma
    assert expected.sigma < 0.3 * period


def test_ticks_may_be_missed_and_pauses_bridged() -> None:
    clock = TickClock()
    looked(clock, [0.0, 0.1, 0.2, 0.3, 0.6, 1.0, 2.0, 5.0, 20.0])
    assert clock.period == pytest.approx(0.1, rel=1e-3)
    assert clock.known_for(0.2) > 5
    assert clock.locate(20.5, 21.97) == pytest.approx(21.9, abs=0.01)


def test_a_period_that_was_too_long_is_corrected() -> None:
    clock = TickClock()
    looked(clock, [0.0, 0.2, 0.4, 0.6, 0.8])
    assert clock.period == pytest.approx(0.2, rel=0.02)
    looked(clock, [0.9, 1.0, 1.1, 1.2, 1.3])
    assert clock.period == pytest.approx(0.1, rel=0.02)


def test_another_period_is_learnt_anew() -> None:
    clock = TickClock()
    looked(clock, [number * 0.02 for number in range(20)])
    looked(clock, [1 + number * 0.093 for number in range(20)])
    assert clock.period == pytest.approx(0.093, rel=0.02)


def test_after_a_pause_that_is_too_long_only_the_phase_is_lost() -> None:
    clock = TickClock()
    looked(clock, [0.0, 0.02, 0.04, 0.06])
    assert clock.expect(100.0) is None
    # Of the many ticks in between, the last one is meant.
    assert clock.locate(99.9, 100.0) == pytest.approx(99.99, abs=0.001)
    looked(clock, [100.013])
    assert clock.period == pytest.approx(0.02, rel=0.1)
    assert clock.expect(100.014) is not None


def test_ticks_seen_badly_teach_nothing() -> None:
    clock = TickClock()
    looked(clock, [0.0, 0.1, 0.2, 0.3])
    period = clock.period
    looked(clock, [0.42], width=0.09)
    assert clock.period == period
    looked(TickClock(), [0.0, 0.1], width=0.2)


def test_a_long_life_keeps_the_mean_fresh() -> None:
    clock, at = TickClock(), 0.0
    for number in range(6000):
        at += 0.1 if number < 3000 else 0.1001
        looked(clock, [at])
    assert clock.period == pytest.approx(0.1001, rel=1e-4)
