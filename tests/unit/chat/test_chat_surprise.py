"""Surprise and its threshold."""

from __future__ import annotations

import statistics

import pytest

from titan_nb.chat.surprise import Surprises, surprise


def test_surprise_is_the_distance_to_the_nearest() -> None:
    assert surprise(0.25) == 0.75
    assert surprise(-1.0) == 2.0
    assert surprise(None) == 1.0
    assert surprise(1.00000003) == 0.0


def test_the_threshold_is_mean_and_standard_deviation_of_the_last_hundred() -> None:
    values = [(7 * number % 13) / 13 for number in range(130)]
    held = Surprises()
    for number, value in enumerate(values):
        if number < 10:
            assert held.threshold is None
            assert held.exceeded_by(0.0)
        else:
            last = values[max(0, number - 100) : number]
            assert held.threshold == pytest.approx(statistics.fmean(last) + statistics.pstdev(last))
        held.note(value)


def test_what_equals_the_threshold_is_no_surprise() -> None:
    held = Surprises([0.5] * 10)
    assert held.threshold == 0.5
    assert not held.exceeded_by(0.5)
    assert held.exceeded_by(0.5000001)


def test_a_copy_goes_its_own_way() -> None:
    held = Surprises([0.5] * 10)
    other = held.copy()
    other.note(5.0)
    assert held.threshold == 0.5
    assert other.threshold != 0.5
