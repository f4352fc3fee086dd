"""Local stores that several threads use at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.chat.local_stores import batch, brute_force, everything, opened, pairs, units
from titan_nb.chat import local
from titan_nb.chat.access import TRIES
from titan_nb.chat.local import LocalStore
from titan_nb.chat.sight import Moved
from titan_nb.chat.store import Change, Matches, Selection

HANG_SECONDS = 120


def _together(*jobs: Callable[[], object]) -> None:
    """Run jobs in one thread each; raise what the first of them raised."""
    failures: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG_SECONDS)
        assert not thread.is_alive()
    if failures:
        raise failures[0]


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "folder"])
def test_adding_threads_lose_nothing(tmp_path: Path, kept: bool) -> None:
    store = opened(tmp_path / "kept" if kept else None)
    times = 10 if kept else 150
    rows = units(4 * times, 6)

    def add(thread: int) -> None:
        for number in range(times):
            row = thread * times + number
            store.add(f"chat {thread % 2}", batch(rows[row : row + 1], texts=[str(row)]))

    _together(*(lambda thread=thread: add(thread) for thread in range(4)))
    held = everything(store)
    assert sorted(held) == list(range(4 * times))
    assert {one[1]: one[4] for one in held.values()} == {
        str(row): rows[row].tobytes() for row in range(4 * times)
    }
    store.close()


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "folder"])
def test_searches_see_whole_batches_while_others_change_things(tmp_path: Path, kept: bool) -> None:
    store = opened(tmp_path / "kept" if kept else None)
    same = np.repeat(units(1, 6), 4, axis=0)
    away = -same
    rounds = 8 if kept else 60
    done = threading.Event()

    def change() -> None:
        try:
            for number in range(rounds):
                first, *_ = store.add("a", batch(same, metadata=[f'{{"round": {number}}}'] * 4))
                store.add("b", batch(away))
                if number % 3 == 1:
                    store.forget(Selection(ids=(first, first + 1, first + 2, first + 3)))
                if number % 5 == 2:
                    store.update(first + 4, Change(frozenset({"row"}), row=away[0]))
                    store.compact()
        finally:
            done.set()

    def look() -> None:
        while not done.is_set():
            found = store.search(same[:1], 10_000, Selection(chat_id="a")).found[0]
            assert len(found) % 4 == 0
            ids = [match.item.id for match in found]
            assert ids == sorted(set(ids))
            assert all(match.score > 0.999 and match.item.metadata for match in found)

    _together(change, look, look)
    assert store.chats()["a"].rows == 4 * (rounds - (rounds + 1) // 3)
    store.close()


def test_a_search_looks_again_when_places_changed_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    rows = units(8)
    store.add("a", batch(rows))
    looks = []
    original = local.search

    def disturbed(*arguments: object, **options: object) -> object:
        looks.append(1)
        if len(looks) == 1:
            _together(lambda: store.forget(Selection(ids=(0,))))
            _together(store.compact)
        return original(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(local, "search", disturbed)
    found = store.search(rows[:1], 8, Selection())
    assert pairs(found) == brute_force(rows[1:], range(1, 8), rows[:1], 8)
    assert len(looks) == 2


def test_a_search_that_is_always_disturbed_keeps_the_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    store.add("a", batch(units(3)))
    looks = []

    def disturbed(*_: object, **__: object) -> Matches:
        looks.append(1)
        if len(looks) <= TRIES:
            raise Moved
        other = threading.Thread(target=store.forget, args=(Selection(chat_id="a"),))
        other.start()
        other.join(0.05)
        assert other.is_alive(), "it waits for the search"
        waiting.append(other)
        return original(*_, **__)  # type: ignore[arg-type, return-value]

    waiting: list[threading.Thread] = []
    original = local.search
    monkeypatch.setattr(local, "search", disturbed)
    assert len(store.search(units(1), 5, Selection()).found[0]) == 3
    waiting[0].join(HANG_SECONDS)
    assert store.chats() == {}


def test_rows_added_during_a_search_do_not_show_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened()
    rows = units(40)
    store.add("a", batch(rows[:8]))
    original = local.search

    def later(*arguments: object, **options: object) -> object:
        _together(lambda: store.add("a", batch(rows[8:])))
        return original(*arguments, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(local, "search", later)
        found = store.search(rows[:1], 50, Selection())
    assert pairs(found) == brute_force(rows[:8], range(8), rows[:1], 50)


def test_many_rows_one_by_one(store_of_memory: LocalStore) -> None:
    """A fiftieth of the million that the slow set adds."""
    _add_one_by_one(store_of_memory, 20_000)


@pytest.mark.slow
def test_a_million_rows_one_by_one(store_of_memory: LocalStore) -> None:
    _add_one_by_one(store_of_memory, 1_000_000)


@pytest.fixture
def store_of_memory() -> LocalStore:
    return opened()


def _add_one_by_one(store: LocalStore, count: int) -> None:
    rows = units(64, 4)
    batches = [batch(rows[number : number + 1], texts=[None]) for number in range(64)]
    for number in range(count):
        store.add("a", batches[number % 64])
    assert store.chats()["a"].rows == count
    assert [item.id for item in store.get([0, count - 1]).values()] == [0, count - 1]
    best = pairs(store.search(rows[5:6], 3, Selection()))[0]
    assert [number for number, _ in best] == [5, 69, 133]
