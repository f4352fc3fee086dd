"""Times, as users give them."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

import pytest

from titan_nb.chat.moments import read_moment, read_times
from titan_nb.errors import ChatError

NOON = datetime(2026, 11, 1, 12, tzinfo=timezone.utc)


def test_now_by_default() -> None:
    before = time.time()
    first, second = read_times(None, 2)
    assert before <= first == second <= time.time()


def test_one_for_all_or_one_each() -> None:
    assert read_times(NOON, 2) == [NOON.timestamp()] * 2
    assert read_times(5, 1) == [5.0]
    assert read_times([0, NOON], 2) == [0.0, NOON.timestamp()]


def test_a_time_without_a_zone_is_local() -> None:
    naive = datetime(2026, 11, 1, 12)
    assert read_times(naive, 1) == [naive.timestamp()]


def test_a_wrong_number_of_times() -> None:
    with pytest.raises(ChatError, match="2 times for 3 rows"):
        read_times([1, 2], 3)


@pytest.mark.parametrize("wrong", ["noon", True, b"1", object()])
def test_what_is_no_time(wrong: object) -> None:
    with pytest.raises(ChatError, match="the time of row 1 is a "):
        read_times([0, wrong], 2)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1, 1e18])
def test_what_no_calendar_can_show(wrong: float) -> None:
    with pytest.raises(ChatError, match="since is "):
        read_moment(wrong, "since")


def test_a_datetime_without_a_place_on_the_clock() -> None:
    with pytest.raises(ChatError, match="no place on the clock"):
        read_moment(datetime.min, "until")


def test_a_timedelta_is_before_now() -> None:
    moment = read_moment(timedelta(hours=2), "since")
    assert moment == pytest.approx(time.time() - 7200, abs=60)
    assert read_moment(None, "since") is None
