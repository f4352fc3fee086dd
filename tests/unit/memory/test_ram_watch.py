from __future__ import annotations

from typing import Any

import pytest

from titan_nb.memory.ram_watch import RamWatch


class Held:
    """What is held, as told."""

    def __init__(self, held_bytes: int | None = 100) -> None:
        self.held_bytes = held_bytes

    def read(self) -> int | None:
        return self.held_bytes


def test_an_interrupt_once_and_only_above_the_limit(sampler: Any) -> None:
    host, sent = Held(), []

    def interrupt() -> bool:
        sent.append(host.held_bytes)
        return len(sent) > 1  # the first time is not the moment

    watch = RamWatch(200, host.read, sampler.every, interrupt)
    assert watch.fault == ""
    assert sampler.periods == [0.010]
    for held in (200, None, 300, 310, 320):
        host.held_bytes = held
        sampler.tick()
    assert sent == [300, 310]
    assert watch.interrupted_at_bytes == 310
    watch.stop()
    watch.stop()
    assert sampler.jobs == []


def test_what_was_held_is_known_when_the_interrupt_arrives(sampler: Any) -> None:
    host, known = Held(), []

    def interrupt() -> bool:
        known.append(watch.interrupted_at_bytes)  # the cell may end before this returns
        return len(known) > 1

    watch = RamWatch(200, host.read, sampler.every, interrupt)
    host.held_bytes = 300
    sampler.tick()
    assert watch.interrupted_at_bytes is None
    sampler.tick()
    assert known == [300, 300]


def test_no_interrupt_after_the_end(sampler: Any) -> None:
    host = Held()
    watch = RamWatch(200, host.read, sampler.every, lambda: pytest.fail("the cell is over"))
    look = sampler.jobs[0]
    watch.stop()
    host.held_bytes = 300
    look()
    assert watch.interrupted_at_bytes is None


def broken(seconds: float, job: object) -> Any:
    raise RuntimeError("no thread")


def idle(seconds: float, job: object) -> Any:
    return lambda: 1 / 0


@pytest.mark.parametrize(
    ("held", "every", "interrupt", "fault"),
    [
        (100, None, bool, "nothing can interrupt the code"),
        (100, idle, None, "nothing can interrupt the code"),
        (None, idle, bool, "what is held is unknown"),
        (100, broken, bool, "RuntimeError: no thread"),
    ],
)
def test_why_there_is_no_watch(held: int | None, every: Any, interrupt: Any, fault: str) -> None:
    watch = RamWatch(200, Held(held).read, every, interrupt)
    assert watch.fault == fault
    watch.stop()


def test_a_cancel_that_fails_is_nobodys_error() -> None:
    RamWatch(200, Held().read, idle, bool).stop()
