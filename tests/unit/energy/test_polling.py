from __future__ import annotations

import random
import time

import pytest

from titan_nb.energy.polling import Look, Tick, lasting, mean_watts, poll, regularity, stamps_tick, ticks
from titan_nb.errors import SensorError

PERIOD, WATTS = 0.1, 50.0


def made_ticks(count: int, period: float = PERIOD, jitter: float = 0.0, half: float = 0.0005) -> list[Tick]:
    """Ticks on a grid, each off by up to ``jitter`` in a way that is the same each time."""
    noise = random.Random(1)
    moments = [7.0 + number * period + noise.uniform(-jitter, jitter) for number in range(count)]
    return [Tick(at - half, at + half, WATTS * at) for at in moments]


def made_looks(stamp: str, seconds: float = 2.0) -> list[Look]:
    """Looks a millisecond apart, ten ticks a second, the wall clock 500 s ahead."""
    looks = []
    for number in range(round(seconds * 1000)):
        at = 3 + number * 1e-3
        tick = at // PERIOD * PERIOD
        stamped = {"tick": tick, "call": at, "late": tick - 0.05, "frozen": 0.0}[stamp]
        looks.append(Look(at - 1e-5, at, WATTS * tick, stamped + 500, at + 500))
    return looks


def test_a_poll_looks_about_once_a_millisecond_and_ends() -> None:
    def look() -> Look:
        now = time.perf_counter()
        return Look(now, now, 0.0)

    begin = time.perf_counter()
    looks = list(poll(look, lasting(0.2)))
    assert 0.2 <= time.perf_counter() - begin < 2
    assert 10 <= len(looks) <= 201
    assert looks[2].before - looks[1].before >= 0.0005


def test_a_tick_lies_between_the_last_old_and_the_first_new_value() -> None:
    looks = [Look(0.0, 0.1, 5), Look(1.0, 1.1, 5), Look(2.0, 2.2, 7), Look(3.0, 3.1, 7)]
    (tick,) = ticks(looks)
    assert tick == Tick(1.0, 2.2, 7)
    assert (tick.at, tick.half) == pytest.approx((1.6, 0.6))


def test_a_counter_that_goes_backwards_cannot_be_calibrated() -> None:
    with pytest.raises(SensorError, match="backwards"):
        list(ticks([Look(0, 0, 5), Look(1, 1, 4)]))


@pytest.mark.parametrize("jitter", [0.0, 0.002, 0.008])
def test_period_and_jitter_are_found(jitter: float) -> None:
    found = regularity(made_ticks(300, jitter=jitter))
    assert found.period_seconds == pytest.approx(PERIOD, rel=1e-3)
    assert found.jitter_seconds == pytest.approx(jitter / 3**0.5, rel=0.1, abs=1e-4)


def test_missed_and_badly_seen_ticks_change_neither() -> None:
    seen = made_ticks(200)
    seen[50] = seen[50]._replace(earliest=seen[50].earliest - 0.08)
    seen = [tick for number, tick in enumerate(seen) if number not in (20, 21, 90)]
    found = regularity(seen)
    assert found.period_seconds == pytest.approx(PERIOD, rel=1e-6)
    assert found.jitter_seconds == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "seen",
    [[], made_ticks(4), made_ticks(100, period=0.001, half=0.001)],
    ids=["none", "few", "at every look"],
)
def test_without_regular_ticks_nothing_is_claimed(seen: list[Tick]) -> None:
    assert regularity(seen) == (None, None)


def test_the_mean_power_is_that_between_ticks() -> None:
    assert mean_watts(made_ticks(5)) == pytest.approx(WATTS)
    assert mean_watts(made_ticks(1)) is None


@pytest.mark.parametrize(
    ("stamp", "told"), [("tick", True), ("call", False), ("late", False), ("frozen", False)]
)
def test_a_time_stamp_counts_only_if_it_is_that_of_the_tick(stamp: str, told: bool) -> None:
    assert stamps_tick(made_looks(stamp), PERIOD) is told


def test_a_time_stamp_without_proof_does_not_count() -> None:
    looks = made_looks("tick")
    assert not stamps_tick(looks, None)
    assert not stamps_tick(looks[:300], PERIOD), "three ticks are too few"
    assert not stamps_tick([look._replace(stamp=None) for look in looks], PERIOD)
    assert not stamps_tick([], PERIOD)
