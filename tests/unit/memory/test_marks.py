from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from titan_nb.memory.marks import Marks, marks_of


def test_one_object_per_process() -> None:
    assert marks_of(os.getpid()) is marks_of(os.getpid())


def test_the_lock_is_given_back_after_anything() -> None:
    marks = Marks()

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        marks.locked(interrupted, None)
    found: list[str] = []
    other = threading.Thread(target=lambda: found.append(marks.locked(lambda: "free", "taken")))
    other.start()
    other.join(5)
    assert found == ["free"]


def test_another_process_id_is_a_forked_child(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = Marks()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert marks.inherited
    assert marks.locked(lambda: "parent", "child") == "child"


def test_the_same_thread_may_come_back_in() -> None:
    marks = Marks()
    assert marks.locked(lambda: marks.locked(lambda: "inner", "taken"), "taken") == "inner"


def test_a_taken_lock_costs_at_most_a_moment(in_child: Callable[[Callable[[], bool]], bool]) -> None:
    marks = Marks()
    held, release = threading.Event(), threading.Event()

    def stay() -> None:
        held.set()
        release.wait(10)

    other = threading.Thread(target=lambda: marks.locked(stay, None))
    other.start()
    assert held.wait(5)
    started = time.perf_counter()
    assert marks.locked(lambda: "free", "taken") == "taken"
    assert time.perf_counter() - started < 1.0
    # The child's copy of the lock stays taken for ever: it must not even be tried.
    assert in_child(lambda: marks.inherited and marks.locked(lambda: "free", "child") == "child")
    release.set()
    other.join(5)
    assert marks.locked(lambda: "free", "taken") == "free"
