"""Whether a counter integrates all of the power, told from short bursts of work."""

from __future__ import annotations

import bisect
import itertools
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from titan_nb.energy.load import Beside, Busy, Load
from titan_nb.energy.polling import Look, Tick, poll, ticks

__all__ = ["Burst", "Verdict", "burst_train", "judge"]

_LENGTHS = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Lengths of the bursts in periods."""

_SHORT = 0.8
"""A burst of more periods than this shows much the same on every counter: it tells the total only."""

_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.005, 0.1
_REST_PERIODS = 5
_GOLDEN = (5**0.5 - 1) / 2
"""Its multiples spread evenly between whole numbers, whatever their count."""

_DUTIES = tuple(number / 50 for number in range(1, 51))
_LAGS = tuple(number / 20 for number in range(20))
_SMALL, _CLEAR = 0.1, 2.0
_FEWEST = 10


class Burst(NamedTuple):
    """One burst of work.

    Attributes:
        nominal_seconds: How long it was asked to be.
        busy: When the device worked.
    """

    nominal_seconds: float
    busy: Busy


class Verdict(NamedTuple):
    """What the bursts tell.

    Attributes:
        duty: The part of the time in which the counter looks; None when that cannot be told.
        why: The reason, in words.
        bursts: How many short bursts could be used.
        scatter: Scatter of their energies about those of a counter that integrates, as a part of them.
        scatter_part_time: The same about those of the part-time counter that fits best.
        total_ratio: Energy of all bursts as counted, over steady power x busy time; None when unknown.
    """

    duty: float | None
    why: str
    bursts: int = 0
    scatter: float | None = None
    scatter_part_time: float | None = None
    total_ratio: float | None = None


class _Sample(NamedTuple):
    nominal_seconds: float
    busy: Busy
    ticks: tuple[Tick, ...]
    joules: float


def burst_train(
    look: Callable[[], Look], load: Load, period_seconds: float, each: int
) -> tuple[list[Tick], list[Burst]]:
    """Run ``each`` bursts of every length, spread over the phases of the counter, and watch the ticks.

    Args:
        look: Looks at the counter.
        load: The work, opened.
        period_seconds: From tick to tick.
        each: How many bursts of each length.
    """
    lengths = [min(max(part * period_seconds, _SHORTEST_SECONDS), _LONGEST_SECONDS) for part in _LENGTHS]

    def run() -> list[Burst]:
        bursts = []
        for number, nominal in enumerate(lengths * each):
            time.sleep((_REST_PERIODS + number * _GOLDEN % 1) * period_seconds)
            bursts.append(Burst(nominal, load.run(nominal)))
        time.sleep(_REST_PERIODS * period_seconds)
        return bursts

    beside = Beside(run)
    seen = list(ticks(poll(look, lambda: beside.running)))
    return seen, beside.result()


def judge(
    seen: Sequence[Tick], bursts: Sequence[Burst], period_seconds: float, steady_watts: float | None
) -> Verdict:
    """Tell a counter that integrates from one that looks only a part of the time.

    The joules of a burst above idle are counted from the last tick before it to the first one two periods
    after it. A counter that integrates shows power x busy time, whatever the phase. One that takes the mean
    over the part w of each period for the whole of it shows power x (busy time inside these parts) / w: the
    same on average, but scattered, as a burst falls into them or between. The power is free for each length,
    because clocks and voltage take time to rise.

    The decision rule, where scatter is the root mean square of what is left, over that of the energies:

    - fewer than 10 bursts shorter than 0.8 periods: cannot tell;
    - scatter of at most 0.1 about an integrating counter: it integrates (a duty above 0.9 looks the same);
    - else, if the best w and lag of the windows at least halve the scatter: the duty is w, in steps of 0.02;
    - else cannot tell.

    Args:
        seen: The ticks, from before the first burst to after the last.
        bursts: The bursts, in order.
        period_seconds: From tick to tick.
        steady_watts: Power of the device under the same load for long, in watts.
    """
    idle_watts = _idle_watts(seen, bursts, period_seconds)
    if idle_watts is None:
        return Verdict(None, "no quiet time between the bursts was seen")
    samples = list(_samples(seen, bursts, period_seconds, idle_watts))
    ratio = None
    if samples and steady_watts is not None and steady_watts > idle_watts:
        busy = sum(sample.busy.end - sample.busy.begin for sample in samples)
        ratio = sum(sample.joules for sample in samples) / ((steady_watts - idle_watts) * busy)
    samples = [one for one in samples if one.busy.end - one.busy.begin < _SHORT * period_seconds]
    if len(samples) < _FEWEST:
        return Verdict(
            None, f"only {len(samples)} short bursts could be used", len(samples), total_ratio=ratio
        )
    scatter = _scatter(samples, [_shown(sample, 1.0, 0.0, period_seconds) for sample in samples])
    fits = (
        (_scatter(samples, [_shown(sample, duty, lag, period_seconds) for sample in samples]), duty)
        for duty, lag in itertools.product(_DUTIES, _LAGS)
    )
    best, duty = min(fits)
    told = len(samples), scatter, best, ratio
    if scatter <= _SMALL:
        return Verdict(1.0, "its count of short bursts does not depend on when they come", *told)
    if best * _CLEAR <= scatter:
        return Verdict(duty, "its count of short bursts depends on when they come", *told)
    return Verdict(None, "its count of short bursts fits no kind of counter", *told)


def _idle_watts(seen: Sequence[Tick], bursts: Sequence[Burst], period: float) -> float | None:
    """Return the mean power between ticks that no burst can have moved."""
    ends = [burst.busy.end + 2 * period for burst in bursts]
    begins = [burst.busy.begin for burst in bursts]
    joules = seconds = 0.0
    for old, new in itertools.pairwise(seen):
        gone = bisect.bisect_left(ends, old.at)
        if gone == len(begins) or new.at < begins[gone]:
            joules, seconds = joules + new.joules - old.joules, seconds + new.at - old.at
    return joules / seconds if seconds > 0 else None


def _samples(
    seen: Sequence[Tick], bursts: Sequence[Burst], period: float, idle_watts: float
) -> Iterator[_Sample]:
    """Return the bursts around which every tick was seen, and seen well."""
    moments = [tick.at for tick in seen]
    following = [*(burst.busy.begin for burst in bursts[1:]), math.inf]
    for (nominal, busy), next_begin in zip(bursts, following, strict=True):
        first = bisect.bisect_right(moments, busy.begin) - 1
        last = bisect.bisect_left(moments, busy.end + 2 * period)
        if first < 0 or last == len(seen) or moments[last] >= next_begin:
            continue
        around = tuple(seen[first : last + 1])
        well = all(tick.half <= 0.15 * period for tick in around)
        if well and all(0.5 < (new.at - old.at) / period < 1.5 for old, new in itertools.pairwise(around)):
            seconds = around[-1].at - around[0].at
            joules = around[-1].joules - around[0].joules - idle_watts * seconds
            yield _Sample(nominal, busy, around, joules)


def _shown(sample: _Sample, duty: float, lag: float, period: float) -> float:
    """Return the busy time that such a counter shows, in seconds."""
    inside = 0.0
    for old, new in itertools.pairwise(sample.ticks):
        end = new.at - lag * period
        begin = end - duty * (new.at - old.at)
        inside += max(0.0, min(end, sample.busy.end) - max(begin, sample.busy.begin))
    return inside / duty


def _scatter(samples: Sequence[_Sample], shown: Iterable[float]) -> float:
    """Return what is left of the energies once each length has its best power, as a part of them."""
    groups: dict[float, list[tuple[float, float]]] = defaultdict(list)
    for sample, seconds in zip(samples, shown, strict=True):
        groups[sample.nominal_seconds].append((seconds, sample.joules))
    left = size = 0.0
    for group in groups.values():
        square = sum(seconds**2 for seconds, _ in group)
        watts = sum(seconds * joules for seconds, joules in group) / square if square else 0.0
        left += sum((joules - watts * seconds) ** 2 for seconds, joules in group)
        size += sum(joules for _, joules in group) ** 2 / len(group)
    return math.sqrt(left / size) if size else math.inf
