from __future__ import annotations

import itertools
import random
import time

import pytest

from titan_nb.energy.bursts import Burst, burst_train, judge
from titan_nb.energy.load import Busy
from titan_nb.energy.polling import Look, Tick

PERIOD, IDLE, BUSY = 0.1, 70.0, 600.0


def train(
    duty: float,
    *,
    lag: float = 0.0,
    noise_watts: float = 0.0,
    lengths: tuple[float, ...] = (0.005, 0.01, 0.025, 0.05, 0.1),
    each: int = 8,
    seed: int = 5,
) -> tuple[list[Tick], list[Burst]]:
    """What a counter with such windows shows of bursts at random phase.

    Each tick adds the mean power of a part ``duty`` of the period, that ends ``lag`` periods earlier.
    """
    chance = random.Random(seed)
    bursts, at = [], 1.0
    for nominal in lengths * each:
        at += (5 + chance.random()) * PERIOD
        bursts.append(Burst(nominal, Busy(at, at + nominal)))
        at += nominal

    def busy_seconds(begin: float, end: float) -> float:
        return sum(max(0.0, min(end, b.busy.end) - max(begin, b.busy.begin)) for b in bursts)

    seen, joules = [], 0.0
    for number in range(int((at + 5 * PERIOD) / PERIOD)):
        tick = number * PERIOD
        end = tick - lag * PERIOD
        work = busy_seconds(end - duty * PERIOD, end) / duty
        joules += IDLE * PERIOD + (BUSY - IDLE) * work + chance.gauss(0, noise_watts) * PERIOD
        seen.append(Tick(tick - 0.0005, tick + 0.0005, joules))
    return seen, bursts


@pytest.mark.parametrize("lag", [0.0, 0.35])
def test_a_counter_that_integrates_is_told(lag: float) -> None:
    verdict = judge(*train(1.0, lag=lag), PERIOD, BUSY)
    assert verdict.duty == 1
    assert verdict.bursts == 32, "those of a whole period tell nothing"
    assert verdict.scatter == pytest.approx(0, abs=1e-6)
    assert verdict.total_ratio == pytest.approx(1)


@pytest.mark.parametrize("duty", [0.1, 0.25, 0.5, 0.8])
@pytest.mark.parametrize("lag", [0.0, 0.35])
def test_the_duty_of_a_part_time_counter_is_found(duty: float, lag: float) -> None:
    verdict = judge(*train(duty, lag=lag), PERIOD, BUSY)
    assert verdict.duty == pytest.approx(duty, abs=0.02)
    assert verdict.scatter is not None
    assert verdict.scatter_part_time is not None
    assert verdict.scatter_part_time < verdict.scatter / 4


def test_a_part_time_counter_is_right_on_average() -> None:
    verdict = judge(*train(0.25, each=100), PERIOD, BUSY)
    assert verdict.total_ratio == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("duty", [0.25, 1.0])
def test_power_that_varies_does_not_hide_the_kind(duty: float) -> None:
    verdict = judge(*train(duty, noise_watts=5), PERIOD, BUSY)
    assert verdict.duty == pytest.approx(duty, abs=0.04)


def test_too_much_noise_leaves_the_duty_open() -> None:
    verdict = judge(*train(1.0, noise_watts=100), PERIOD, BUSY)
    assert (verdict.duty, "fits no kind" in verdict.why) == (None, True)


@pytest.mark.parametrize(
    ("how", "why"),
    [({"each": 2}, "only 8 short"), ({"lengths": (0.09,)}, "only 0 short")],
)
def test_bursts_that_cannot_tell_tell_nothing(how: dict[str, object], why: str) -> None:
    verdict = judge(*train(0.25, **how), PERIOD, BUSY)
    assert (verdict.duty, why in verdict.why) == (None, True), verdict


def test_without_a_quiet_time_there_is_no_verdict() -> None:
    seen, _ = train(1.0)
    assert judge(seen, [Burst(0.05, Busy(0.0, 1e6))], PERIOD, BUSY).why.startswith("no quiet time")


def test_without_a_load_that_draws_more_no_total_is_given() -> None:
    seen, bursts = train(1.0)
    assert judge(seen, bursts, PERIOD, IDLE / 2).total_ratio is None
    assert judge(seen, bursts, PERIOD, None).total_ratio is None


def test_a_burst_whose_ticks_were_missed_or_badly_seen_is_left_out() -> None:
    seen, bursts = train(1.0)
    whole = judge(seen, bursts, PERIOD, BUSY).bursts

    def near(burst: Burst) -> int:
        return next(number for number, tick in enumerate(seen) if tick.at > burst.busy.end)

    missed = near(bursts[1])
    assert judge([*seen[:missed], *seen[missed + 1 :]], bursts, PERIOD, BUSY).bursts == whole - 1
    bad = near(bursts[2])
    blurred = [*seen]
    blurred[bad] = blurred[bad]._replace(earliest=blurred[bad].earliest - 0.05)
    assert judge(blurred, bursts, PERIOD, BUSY).bursts == whole - 1
    cut = [tick for tick in seen if tick.at > bursts[0].busy.begin]
    assert judge(cut, bursts, PERIOD, BUSY).bursts == whole - 1


class Steps:
    """A load that counts what it is asked for, and takes no time."""

    name = "steps"

    def __init__(self) -> None:
        self.asked: list[float] = []

    def open(self) -> None:
        return None

    def run(self, seconds: float) -> Busy:
        self.asked.append(seconds)
        now = time.perf_counter()
        return Busy(now, now)


@pytest.mark.parametrize(
    ("period", "lengths"), [(0.004, [0.005] * 5), (0.02, [0.005, 0.005, 0.005, 0.01, 0.02])]
)
def test_the_lengths_follow_the_period_within_bounds(period: float, lengths: list[float]) -> None:
    load = Steps()

    def look() -> Look:
        now = time.perf_counter()
        return Look(now, now, now // period)

    seen, bursts = burst_train(look, load, period, 2)
    assert load.asked == pytest.approx(lengths * 2)
    assert [burst.nominal_seconds for burst in bursts] == load.asked
    assert seen[0].at < bursts[0].busy.begin
    assert seen[-1].at > bursts[-1].busy.end
    rests = [new.busy.begin - old.busy.end for old, new in itertools.pairwise(bursts)]
    assert min(rests) >= 5 * period
