"""Whoever interrupts whom: a local memory changes as a whole or not at all, and stays in line."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tests.unit.chat.local_stores import batch, brute_force, everything, opened, pairs, units
from titan_nb.chat import changes, local
from titan_nb.chat.contents import Contents
from titan_nb.chat.folder import Folder
from titan_nb.chat.local import LocalStore
from titan_nb.chat.store import Change, Selection
from titan_nb.chat.tiers import Tiers
from titan_nb.errors import ChatError

ALL = Selection()
ROWS = units(40)
HANG_SECONDS = 60
MOMENTS = 25
"""At how many lines of each call it is interrupted."""

CALLS: dict[str, Callable[[LocalStore], object]] = {
    "add one": lambda store: store.add("a", batch(ROWS[20:21])),
    "add some": lambda store: store.add("a", batch(ROWS[20:25])),
    "add a chat": lambda store: store.add("new", batch(ROWS[20:25])),
    "update": lambda store: store.update(2, Change(frozenset({"row", "text"}), row=ROWS[30], text="new")),
    "forget": lambda store: store.forget(Selection(ids=(1, 4, 11))),
    "forget a chat": lambda store: store.forget(Selection(chat_id="b")),
    "compact": lambda store: store.compact(),
    "search": lambda store: store.search(ROWS[:2], 5, ALL),
}


def filled() -> LocalStore:
    """Return a store of which one of two chats fits in the memory that it may use."""
    store = LocalStore(tiers=Tiers({"ram": 12 * 32}))
    store.add("a", batch(ROWS[:10]))
    store.add("b", batch(ROWS[10:15]))
    store.add("a", batch(ROWS[15:18]))
    store.forget(Selection(ids=(0, 12)))
    return store


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_while_chunks_move_between_tiers_leaves_all_or_nothing(name: str) -> None:
    """Without tiers, and in a folder: see test_chat_changes.py."""
    store, untouched = filled(), filled()
    lines = run_until(None, lambda: CALLS[name](store))
    before, after = checked(untouched), checked(store)
    for line in range(1, lines + 1, max(1, lines // MOMENTS)):
        store = filled()
        with pytest.raises(KeyboardInterrupt):
            run_until(line, lambda store=store: CALLS[name](store))  # type: ignore[misc]
        assert checked(store) in (before, after), line
        (new,) = store.add("a", batch(ROWS[33:34]))
        store.update(new, Change(frozenset({"row"}), row=ROWS[38]))
        store.forget(Selection(ids=(9,)))
        held = checked(store)
        store.compact()
        assert checked(store) == held, line
        store.close()


def checked(store: LocalStore) -> dict[int, tuple[Any, ...]]:
    """Return all that is stored, after a search that brute force confirms."""
    held = everything(store)
    rows = np.stack([np.frombuffer(item[4], dtype=np.float32) for item in held.values()])
    assert pairs(store.search(ROWS[5:7], 50, ALL)) == brute_force(rows, list(held), ROWS[5:7], 50)
    assert sum(chat.rows for chat in store.chats().values()) == len(held)
    return held


def run_until(line: int | None, call: Callable[[], object]) -> int:
    """Run a call, interrupt it at the n-th line of the chat memory, and return how many it took."""
    seen = 0

    def look(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal seen
        code = frame.f_code
        # What a finaliser or generator raises when it is let go of would only be printed.
        if "titan_nb/chat" not in code.co_filename or code.co_name in {"__del__", "<genexpr>"}:
            return None
        seen += 1
        if seen == line:
            raise KeyboardInterrupt
        return look

    before = sys.gettrace()
    sys.settrace(look)
    try:
        call()
    finally:
        sys.settrace(before)
    return seen


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalStore]:
    made = opened(None if request.param == "memory" else tmp_path / "kept")
    made.add("a", batch(ROWS[:3]))
    yield made
    made.close()


def test_what_a_finaliser_does_in_the_middle_of_a_change_is_refused(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = []
    write = changes._write

    def interrupted(*arguments: Any) -> Any:
        written = write(*arguments)
        for call in (
            store.chats,
            lambda: store.add("b", batch(ROWS[:1])),
            lambda: store.search(ROWS, 1, ALL),
        ):
            with pytest.raises(ChatError, match="in use by the call that this one interrupts"):
                call()
            refused.append(1)
        return written

    with monkeypatch.context() as patched:
        patched.setattr(changes, "_write", interrupted)
        assert store.add("a", batch(ROWS[3:5])) == [3, 4]
    assert len(refused) == 3
    assert list(checked(store)) == [0, 1, 2, 3, 4]


def test_what_a_finaliser_does_in_the_middle_of_a_look_at_a_folder_is_refused(tmp_path: Path) -> None:
    writer = opened(tmp_path / "kept")
    writer.add("a", batch(ROWS[:3]))
    reader = opened(tmp_path / "kept", "r")

    def look() -> int:
        writer.add("b", batch(ROWS[3:5]))
        with pytest.raises(ChatError, match="in use by the call that this one interrupts"):
            reader.chats()
        return len(reader._access.catalog.chats())

    assert reader._access.read(look) == 1, "one moment"
    assert list(reader.chats()) == ["a", "b"]
    reader.close()
    writer.close()


def test_a_child_is_refused_whoever_had_the_lock_when_it_was_forked(store: LocalStore) -> None:
    store._access.lock.acquire()
    codes: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            signal.alarm(HANG_SECONDS // 3)
            refused = 0
            for call in (store.chats, lambda: store.forget(Selection(chat_id="a"))):
                try:
                    call()
                except ChatError as error:
                    refused += "forked" in str(error)
            os._exit(refused)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    other = threading.Thread(target=fork, daemon=True)
    other.start()
    other.join(HANG_SECONDS)
    store._access.lock.release()
    assert codes == [2]


def test_what_cannot_be_mended_at_once_is_mended_by_the_next_call(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    def wrong(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(Contents, "load", failing)
        patched.setattr(changes, "_publish", wrong)
        with pytest.raises(ZeroDivisionError):
            store.add("a", batch(ROWS[3:5]))
        with pytest.raises(ChatError, match="disk I/O error"):
            store.chats()
    assert list(checked(store)) == [0, 1, 2, 3, 4]


def test_damage_that_is_taken_out_during_a_search_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(tmp_path / "kept")
    store.add("a", batch(ROWS[:3]))
    store.add("a", batch(ROWS[3:6]))
    search = local.search
    looks = []

    def disturbed(*arguments: Any, **options: Any) -> Any:
        looks.append(1)
        if len(looks) == 1:
            with (tmp_path / "kept" / "vectors" / "0001.rows").open("r+b") as file:
                file.seek(-1, os.SEEK_END)
                file.write(b"\x00")
            assert len(store.verify()) == 1
        return search(*arguments, **options)

    monkeypatch.setattr(local, "search", disturbed)
    found = store.search(ROWS[:1], 10, ALL)
    assert pairs(found) == brute_force(ROWS[:3], range(3), ROWS[:1], 10)
    assert len(looks) == 2
    store.close()


def test_a_folder_whose_database_cannot_be_opened_is_not_kept_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.open(tmp_path / "kept")

    def failing(*_: object) -> None:
        raise ChatError("busy")

    with monkeypatch.context() as patched:
        patched.setattr(folder, "connect", failing)
        with pytest.raises(ChatError, match="busy"):
            LocalStore(folder)
    opened(tmp_path / "kept").close()
