from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.energy.bracket import Bracket
from titan_nb.energy.steps import Step, Tick


def tick(at: float, width: float = 0.0) -> Tick:
    return Tick(at - width / 2, at + width / 2, at)


def step(begin: float, end: float, joules: float, width: float = 0.0) -> Step:
    return Step(tick(begin, width), tick(end, width), joules, end - begin)


def filled(steps: list[Step], started: float, ended: float, duty: float = 1.0) -> Bracket:
    bracket = Bracket(started, duty)
    bracket.ended = ended
    for one in steps:
        bracket.add(one)
    return bracket


HUNDRED_WATTS = [step(number / 10, number / 10 + 0.1, 10) for number in range(10)]


def test_whole_ticks_count_for_both_ends_and_those_at_the_edges_for_the_upper_one() -> None:
    bracket = filled(HUNDRED_WATTS, 0.25, 0.65)
    assert bracket.interval(700) == pytest.approx((30, 50))
    assert bracket.inside == 3


def test_a_window_within_one_tick_is_bounded_by_it() -> None:
    bracket = filled(HUNDRED_WATTS, 0.32, 0.34)
    assert bracket.interval(700) == (0, 10)
    assert bracket.inside == 0


def test_a_tick_seen_on_either_side_of_an_edge_widens() -> None:
    steps = [step(0, 0.5, 50, 0.02), step(0.5, 1.0, 50, 0.02)]
    assert filled(steps, 0.5, 2).interval(1e5) == (0, 100)
    assert filled(steps, 0.49, 1.01).interval(1e5) == (50, 100)


def test_a_part_time_counter_may_have_missed_the_work_at_the_edges() -> None:
    # It saw 70 W in the tick in which the window began, and 700 W in those that followed.
    steps = [step(0, 1, 70), step(1, 2, 700), step(2, 3, 700), step(3, 4, 70)]
    whole, part = filled(steps, 0.5, 3.5), filled(steps, 0.5, 3.5, duty=0.25)
    assert whole.interval(800) == (1400, 1540)
    assert part.interval(800) == (1400, 1400 + 2 * 350)


def test_a_part_time_counter_without_a_whole_tick_allows_for_the_devices_limit() -> None:
    assert filled([step(0, 1, 70)], 0.2, 0.4, duty=0.25).interval(800) == pytest.approx((0, 160))


def test_changes_between_ticks_widen_a_part_time_counters_interval() -> None:
    steps = [step(0, 1, 100), step(1, 2, 300), step(2, 3, 100)]
    low, high = filled(steps, 0, 3, duty=0.5).interval(800)
    error = 2 * math.sqrt(2 * (0.5 * 200) ** 2)
    assert (low, high) == pytest.approx((500 - error, 500 + error))


def test_ticks_that_come_early_or_late_are_no_changes() -> None:
    loose = [Step(tick(at), tick(at + 1), joules, 1, 0.2) for at, joules in ((0, 100), (1, 110), (2, 95))]
    low, high = filled(loose, 0, 3, duty=0.5).interval(800)
    assert (low, high) == (305, 305)


@settings(max_examples=300, deadline=None)
@given(
    lengths=st.lists(st.floats(0.001, 0.5), min_size=2, max_size=30),
    looks=st.lists(st.floats(0, 1), min_size=31, max_size=31),
    levels=st.lists(st.floats(0, 700), min_size=61, max_size=61),
    edges=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_an_ideal_counter_has_the_truth_between_both_ends(
    lengths: list[float], looks: list[float], levels: list[float], edges: tuple[float, float]
) -> None:
    """Whatever the load does, wherever the window lies, and however roughly the ticks were seen."""
    ticks = [0.0]
    for length in lengths:
        ticks.append(ticks[-1] + length)
    # The power changes in the middle of every tick as well.
    corners = sorted({*ticks, *((a + b) / 2 for a, b in itertools.pairwise(ticks))})

    def joules(begin: float, end: float) -> float:
        parts = zip(corners, corners[1:], levels, strict=False)
        return sum(max(0.0, min(end, b) - max(begin, a)) * watts for a, b, watts in parts)

    def seen(number: int) -> Tick:
        # Between a look within the last tick and one within the next.
        before = ticks[number] - (lengths[number - 1] * looks[number] if number else 1.0)
        after = ticks[number] + (lengths[number] * (1 - looks[number]) if number < len(lengths) else 1.0)
        return Tick(before, after, (before + after) / 2)

    started, ended = (edge * ticks[-1] for edge in sorted(edges))
    bracket = Bracket(started)
    bracket.ended = ended
    for number, length in enumerate(lengths):
        at = ticks[number]
        bracket.add(Step(seen(number), seen(number + 1), joules(at, at + length), length))
    low, high = bracket.interval(700)
    assert low - 1e-6 <= joules(started, ended) <= high + 1e-6


def test_the_step_after_a_long_pause_counts_for_no_more_than_can_be_drawn_in_the_window() -> None:
    pause = step(-3600, 0.1, 70 * 3600)
    assert filled([pause, step(0.1, 0.2, 10)], 0.0, 0.15).interval(100) == pytest.approx((0, 20 + 10))
