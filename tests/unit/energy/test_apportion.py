from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan_nb.energy.apportion import Span, apportion

times = st.floats(0, 100, allow_nan=False)


def test_a_window_gets_what_is_above_idle() -> None:
    # Half a second of 70 W before the window, half a second of 700 W in it.
    assert apportion(0, 1, 385, [Span(0.5, math.inf)], 70) == [pytest.approx(350)]


def test_gaps_get_idle_and_windows_share_the_rest_by_length() -> None:
    spans = [Span(0, 0.2), Span(0.2, 0.4, works=False), Span(0.4, 1)]
    assert apportion(0, 1, 100, spans, 20) == pytest.approx([24, 4, 72])


def test_without_idle_power_or_with_less_than_it_all_goes_by_length() -> None:
    spans = [Span(0, 0.25), Span(0.25, 1, works=False)]
    assert apportion(0, 1, 100, spans, None) == pytest.approx([25, 75])
    assert apportion(0, 1, 10, spans, 20) == pytest.approx([2.5, 7.5])


def test_no_window_gets_more_than_the_device_can_draw_in_it() -> None:
    # A thousandth of a second of work cannot have taken fifty joules: somebody else did.
    spans = [Span(0, 0.001), Span(0.001, 1, works=False)]
    assert apportion(0, 1, 120, spans, 70, 700) == pytest.approx([0.7, 119.3])


def test_windows_inside_others_get_their_part_again() -> None:
    assert apportion(0, 1, 100, [Span(0, 1), Span(0.5, 0.75)], 0) == pytest.approx([100, 25])


def test_a_step_without_length_goes_to_who_is_there() -> None:
    assert apportion(1, 1, 5, [Span(0, 2), Span(2, 3)], 10) == [5, 0]


@given(
    edges=st.lists(times, min_size=2, max_size=12, unique=True),
    joules=st.floats(0, 1e6),
    idle=st.none() | st.floats(0, 1e3),
    begin=times,
    length=st.floats(1e-6, 50),
    limit=st.floats(0, 1e4),
)
def test_cells_and_gaps_that_follow_one_another_get_each_joule_once(
    edges: list[float], joules: float, idle: float | None, begin: float, length: float, limit: float
) -> None:
    edges = [-math.inf, *sorted(edges), math.inf]
    spans = [
        Span(left, right, works=number % 2 == 1)
        for number, (left, right) in enumerate(itertools.pairwise(edges))
    ]
    shares = apportion(begin, begin + length, joules, spans, idle, limit)
    assert min(shares) >= 0
    assert sum(shares) == pytest.approx(joules, rel=1e-9, abs=1e-9)
    for span, share in zip(spans, shares, strict=True):
        if span.ended <= begin or span.started >= begin + length:
            assert share == 0
