from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator

import pytest

from titan_nb.energy.sampler import Sampler, Ticket
from titan_nb.errors import SensorError

WAIT = 5.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Opened at the end of the test, so that no thread is left hanging."""
    gate = threading.Event()
    yield gate
    gate.set()


_EARLIER: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def earlier_threads() -> None:
    _EARLIER.clear()
    _EARLIER.update(threading.enumerate())


def threads() -> list[threading.Thread]:
    """The sampler threads that this test has started."""
    new = set(threading.enumerate()) - _EARLIER
    return [thread for thread in new if thread.name == "titan-sampler"]


def hang(sampler: Sampler, gate: threading.Event) -> Ticket:
    started = threading.Event()

    def job() -> str:
        started.set()
        gate.wait(WAIT)
        return "late"

    ticket = sampler.submit(job)
    assert started.wait(WAIT)
    return ticket


def overdue(sampler: Sampler) -> None:
    """Let time pass until the next look gives the present job up."""
    time.sleep(0.2)
    sampler.check()
    time.sleep(0.2)


def test_jobs_run_in_order_on_one_daemon_thread(sampler: Sampler) -> None:
    seen: list[tuple[int, threading.Thread]] = []
    tickets = [
        sampler.submit(lambda number=number: seen.append((number, threading.current_thread())) or number)
        for number in range(5)
    ]
    assert tickets[-1].wait(WAIT)
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4]
    assert len({thread for _, thread in seen}) == 1
    assert seen[0][1].daemon
    assert [ticket.value for ticket in tickets] == [0, 1, 2, 3, 4]


def test_nothing_is_started_before_the_first_job() -> None:
    before = len(threads())
    Sampler()
    assert len(threads()) == before


def test_what_a_job_raises_is_kept_and_the_thread_goes_on(sampler: Sampler) -> None:
    def fail() -> None:
        raise SystemExit

    failed = sampler.submit(fail)
    assert sampler.submit(lambda: 1).wait(WAIT)
    assert isinstance(failed.error, SystemExit)
    assert not failed.stuck


def test_what_follows_runs_on_the_thread_and_may_fail(sampler: Sampler) -> None:
    seen = []

    def follow(ticket: Ticket) -> None:
        seen.append((ticket.value, threading.current_thread().name))
        raise ValueError("ours")

    ticket = sampler.submit(lambda: 7, follow)
    assert sampler.submit(lambda: None).wait(WAIT)
    assert seen == [(7, "titan-sampler")]
    assert isinstance(ticket.error, ValueError)


def test_idle_means_no_wake_ups(sampler: Sampler) -> None:
    assert sampler.submit(lambda: None).wait(WAIT)
    (thread,) = threads()
    task = f"/proc/self/task/{thread.native_id}/status"

    def switches() -> str:
        with open(task, encoding="ascii") as status:  # noqa: PTH123
            return next(line for line in status if line.startswith("voluntary"))

    time.sleep(0.05)
    before = switches()
    time.sleep(0.3)
    assert switches() == before


def test_a_stuck_job_is_given_up_once_and_the_rest_goes_on(sampler: Sampler, gate: threading.Event) -> None:
    followed = threading.Event()
    first = hang(sampler, gate)
    first._then = lambda _: followed.set()
    waiting = sampler.submit(lambda: "served")
    overdue(sampler)
    assert sampler.busy_seconds() > 0.15
    assert sampler.submit(lambda: "next").wait(WAIT)
    assert first.stuck
    assert isinstance(first.error, SensorError)
    assert waiting.value == "served"
    assert followed.wait(WAIT)


def test_a_job_that_code_holding_the_interpreter_kept_from_running_gets_its_chance(
    sampler: Sampler, gate: threading.Event
) -> None:
    ticket = hang(sampler, gate)
    time.sleep(0.2)
    sampler.check()
    assert not ticket.done
    gate.set()
    assert ticket.wait(WAIT)
    assert ticket.value == "late"
    assert not ticket.stuck


def test_a_job_that_comes_back_after_it_was_given_up_changes_nothing(
    sampler: Sampler, gate: threading.Event
) -> None:
    ticket = hang(sampler, gate)
    overdue(sampler)
    sampler.check()
    gate.set()
    for thread in threads():
        if thread is not sampler._thread:
            thread.join(WAIT)
    assert ticket.value is None
    assert ticket.stuck


def test_a_second_stuck_thread_has_no_successor_until_it_comes_back(
    sampler: Sampler, gate: threading.Event
) -> None:
    hang(sampler, gate)
    overdue(sampler)
    sampler.check()
    second = hang(sampler, gate)
    queued = sampler.submit(lambda: 1)
    overdue(sampler)
    started = time.perf_counter()
    refused = sampler.submit(lambda: 1)
    assert time.perf_counter() - started < 0.05
    assert refused.done
    assert queued.done
    assert second.stuck
    assert "stuck" in str(refused.error)
    assert len(threads()) == 2
    gate.set()
    deadline = time.monotonic() + WAIT
    while sampler.submit(lambda: 1).error is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sampler.submit(lambda: 2).wait(WAIT)
    assert len(threads()) == 1


def test_what_follows_may_hang_as_well(sampler: Sampler, gate: threading.Event) -> None:
    ticket = sampler.submit(lambda: 1, lambda _: gate.wait(WAIT))
    assert ticket.wait(WAIT)
    overdue(sampler)
    assert sampler.submit(lambda: 2).wait(WAIT)
    assert not ticket.stuck


def test_every_runs_until_it_is_cancelled_and_never_overlaps(sampler: Sampler) -> None:
    runs: list[float] = []
    cancel = sampler.every(0.01, lambda: runs.append(time.monotonic()))
    other = sampler.every(60, lambda: runs.append(0.0))
    time.sleep(0.15)
    cancel()
    time.sleep(0.03)
    count = len(runs)
    assert 3 <= count <= 16
    time.sleep(0.05)
    assert len(runs) == count
    assert all(later - earlier >= 0.009 for earlier, later in itertools.pairwise(runs))
    other()
    assert 0.0 not in runs


def test_a_periodic_job_that_fails_goes_on_and_one_that_hangs_is_dropped(
    sampler: Sampler, gate: threading.Event
) -> None:
    fails, hangs = [], []

    def fail() -> None:
        fails.append(1)
        raise ValueError

    sampler.every(0.01, fail)
    time.sleep(0.1)
    assert len(fails) > 1
    sampler.every(0.01, lambda: hangs.append(1) or gate.wait(WAIT))
    overdue(sampler)
    sampler.check()
    before = len(fails)
    time.sleep(0.1)
    assert len(hangs) == 1
    assert len(fails) > before


def test_stop_ends_the_thread_and_a_later_job_starts_another(sampler: Sampler, gate: threading.Event) -> None:
    runs: list[int] = []
    sampler.every(0.01, lambda: runs.append(1))
    assert sampler.submit(lambda: 1).wait(WAIT)
    sampler.stop()
    assert threads() == []
    count = len(runs)
    time.sleep(0.05)
    assert len(runs) == count
    assert sampler.submit(lambda: 1).wait(WAIT)
    hang(sampler, gate)
    waiting = sampler.submit(lambda: 1)
    started = time.monotonic()
    sampler.stop(0.1)
    assert time.monotonic() - started < 1
    assert "stopped" in str(waiting.error)


def test_a_thread_that_cannot_be_started_fails_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    sampler = Sampler()
    assert "can't start new thread" in str(sampler.submit(lambda: 1).error)
    sampler.every(0.01, lambda: None)()
    sampler.stop()


def test_a_forked_child_runs_nothing(sampler: Sampler) -> None:
    assert sampler.submit(lambda: 1).wait(WAIT)
    sampler._pid += 1  # as in a child
    try:
        ticket = sampler.submit(lambda: 1)
        assert "forked" in str(ticket.error)
        sampler.every(0.001, lambda: None)()
        sampler.check()
        sampler.stop()
        assert len(threads()) == 1
    finally:
        sampler._pid = os.getpid()
