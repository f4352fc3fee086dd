from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest

from tests.unit.carbon.server import Server
from titan_nb.carbon.live import FRESH_SECONDS, RETRY_SECONDS, Live, default
from titan_nb.carbon.provider import Answer, FakeProvider
from titan_nb.carbon.providers import CarbonIntensityUK
from titan_nb.carbon.web import NoAnswer

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
GOOD = Answer(300.0, 300.0, 300.0, NOW - timedelta(minutes=20), "made up")


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def live(self) -> Live:
        return Live(lambda: self.seconds, lambda: NOW + timedelta(seconds=self.seconds - 1000.0))


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ask(live: Live, provider: FakeProvider) -> None:
    live.refresh(provider, "DE")
    for asked in live._asked.values():
        assert asked.thread is not None
        asked.thread.join(5)


def test_an_answer_is_kept_and_asked_for_again_after_fifteen_minutes(clock: Clock) -> None:
    live, provider = clock.live(), FakeProvider([GOOD, replace(GOOD, grams_per_kwh=310.0, high=310.0)])
    assert live.last(provider, "DE") is None
    for seconds, asked, grams in [(0, 1, 300.0), (FRESH_SECONDS - 1, 1, 300.0), (1, 2, 310.0)]:
        clock.seconds += seconds
        ask(live, provider)
        answer = live.last(provider, "DE")
        assert answer is not None
        assert (len(provider.asked), answer.grams_per_kwh) == (asked, grams)
    assert FRESH_SECONDS == 15 * 60
    assert live.failure(provider, "DE") is None


def test_a_grid_that_is_not_covered_is_never_asked_for(clock: Clock) -> None:
    live, provider = clock.live(), FakeProvider([GOOD])
    live.refresh(provider, "FR")
    live.settle(1)
    assert provider.asked == []
    assert live.last(provider, "FR") is None
    assert live.failure(provider, "FR") is None
    assert live.warning(provider, "FR") is None


def test_the_last_good_answer_outlives_failures_and_one_warning_is_given_until_it_works_again(
    clock: Clock,
) -> None:
    off = NoAnswer("it is off")
    live, provider = clock.live(), FakeProvider([GOOD, off, off, GOOD, off])
    seen = []
    for _ in range(5):
        ask(live, provider)
        assert live.last(provider, "DE") == GOOD
        seen.append(
            (live.failure(provider, "DE"), live.warning(provider, "DE"), live.warning(provider, "DE"))
        )
        clock.seconds += FRESH_SECONDS
    line = "a fake provider gave no carbon intensity for DE: it is off"
    assert seen == [
        (None, None, None),
        ("it is off", line, None),
        ("it is off", None, None),
        (None, None, None),
        ("it is off", line, None),
    ]


def test_after_a_failure_it_is_left_alone_for_a_minute(clock: Clock) -> None:
    live, provider = clock.live(), FakeProvider([NoAnswer("off"), GOOD])
    for seconds, asked in [(0, 1), (RETRY_SECONDS - 1, 1), (1, 2)]:
        clock.seconds += seconds
        ask(live, provider)
        assert len(provider.asked) == asked
    assert live.last(provider, "DE") == GOOD


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (replace(GOOD, grams_per_kwh=-1.0, low=-1.0), "cannot be right"),
        (replace(GOOD, grams_per_kwh=5001.0, high=5001.0), "cannot be right"),
        (replace(GOOD, grams_per_kwh=math.nan), "cannot be right"),
        (replace(GOOD, high=math.inf), "cannot be right"),
        (replace(GOOD, low=301.0), "cannot be right"),
        (replace(GOOD, high=299.0), "cannot be right"),
        (replace(GOOD, kind="marginal"), "marginal intensity, which is not mixed with average"),
        (replace(GOOD, at=NOW - timedelta(hours=25)), "2026-02-28 11:00 UTC, which is not now"),
        (replace(GOOD, at=NOW + timedelta(hours=2)), "which is not now"),
    ],
)
def test_an_answer_that_cannot_be_right_is_refused(clock: Clock, answer: Answer, reason: str) -> None:
    live, provider = clock.live(), FakeProvider([GOOD, answer])
    ask(live, provider)
    clock.seconds += FRESH_SECONDS
    ask(live, provider)
    assert live.last(provider, "DE") == GOOD
    failure = live.failure(provider, "DE")
    assert failure is not None
    assert reason in failure


def test_an_error_of_our_own_is_said_without_its_text(clock: Clock) -> None:
    live, provider = clock.live(), FakeProvider([KeyError("a-key")])
    ask(live, provider)
    assert live.failure(provider, "DE") == "its answer could not be read (KeyError)"


def test_an_answer_of_yesterday_is_not_used_any_more(clock: Clock) -> None:
    live, provider = clock.live(), FakeProvider([GOOD])
    ask(live, provider)
    clock.seconds += 23.6 * 3600
    assert live.last(provider, "DE") == GOOD
    clock.seconds += 3600
    assert live.last(provider, "DE") is None


def blocking() -> tuple[FakeProvider, threading.Event, Callable[[], None]]:
    gate = threading.Event()

    class Slow(FakeProvider):
        def fetch(self, grid: str) -> Answer:
            answer = super().fetch(grid)
            assert gate.wait(10)
            return answer

    return Slow([GOOD]), gate, gate.set


def test_nobody_waits_and_one_thread_is_enough(clock: Clock) -> None:
    live = clock.live()
    provider, _, release = blocking()
    try:
        for _ in range(3):
            live.refresh(provider, "DE")
            clock.seconds += 10 * FRESH_SECONDS
        assert live.last(provider, "DE") is None
        threads = [thread for thread in threading.enumerate() if thread.name == "titan-carbon"]
        assert len(threads) == len(provider.asked) == 1
        assert threads[0].daemon
    finally:
        release()
    threads[0].join(5)


def test_settle_waits_for_the_answer_and_not_for_ever() -> None:
    live = Live(now=lambda: NOW)
    provider, _, release = blocking()
    live.refresh(provider, "DE")
    live.settle(0.01)
    assert live.last(provider, "DE") is None
    release()
    live.settle(5)
    assert live.last(provider, "DE") == GOOD


def test_a_thread_that_cannot_be_had_is_a_failure(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    live, provider = clock.live(), FakeProvider([GOOD])
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        live.refresh(provider, "DE")
    assert live.failure(provider, "DE") == "can't start new thread"
    live.settle(1)
    clock.seconds += RETRY_SECONDS
    ask(live, provider)
    assert live.last(provider, "DE") == GOOD


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_can_ask_though_its_parent_was_asking(clock: Clock) -> None:
    live = clock.live()
    provider, _, release = blocking()
    live.refresh(provider, "DE")
    child = os.fork()
    if child == 0:
        try:
            clock.seconds += FRESH_SECONDS
            live.refresh(FakeProvider([GOOD]), "DE")
            live.settle(5)
            os._exit(0 if live.last(provider, "DE") == GOOD else 1)
        finally:
            os._exit(2)
    release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    live.settle(5)


def test_over_a_real_connection(server: Server) -> None:
    live = Live()
    here = CarbonIntensityUK(server.base, timeout=5)
    now = datetime.now(timezone.utc)
    period = {"from": f"{now:%Y-%m-%dT%H:%MZ}", "intensity": {"forecast": 200, "actual": 210}}
    server.body = json.dumps({"data": [period]}).encode()
    live.refresh(here, "GB")
    live.settle(10)
    answer = live.last(here, "GB")
    assert answer is not None
    assert answer.grams_per_kwh == 210


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (200, b"<html>", "not JSON"),
        (500, b"{}", "HTTP 500"),
        (200, b'{"data": [{"from": "2001-01-01T00:00Z", "intensity": {"forecast": 9}}]}', "not now"),
    ],
)
def test_over_a_real_connection_that_fails(server: Server, status: int, body: bytes, reason: str) -> None:
    live, here = Live(), CarbonIntensityUK(server.base, timeout=5)
    server.status, server.body = status, body
    live.refresh(here, "GB")
    live.settle(10)
    assert live.last(here, "GB") is None
    line = live.warning(here, "GB")
    assert line is not None
    assert reason in line
    assert "\n" not in line


def test_the_process_has_one() -> None:
    assert default() is default()
