"""Calls that are cut short, wherever they are: all of them happened, or none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tests.unit.chat.local_stores import batch, brute_force, everything, opened, pairs, units
from titan_nb.chat import access, catalog, changes, chunk, contents, local, repack, segment
from titan_nb.chat.local import LocalStore
from titan_nb.chat.store import Change, Selection

OURS = {module.__file__ for module in (access, catalog, changes, chunk, contents, local, repack, segment)}
ROWS = units(12, 4)


class Interrupt:
    """Raises KeyboardInterrupt before the line of this number, counted over the modules of a store."""

    def __init__(self, line: int) -> None:
        self.left = line

    def __call__(self, frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename not in OURS:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self

    def __enter__(self) -> Interrupt:
        self.before = sys.gettrace()
        sys.settrace(self)
        return self

    def __exit__(self, *_: object) -> None:
        # Coverage is measured by a trace function too.
        sys.settrace(self.before)


def _filled(location: Path | None) -> LocalStore:
    store = opened(location)
    store.add("a", batch(ROWS[:4]))
    store.add("b", batch(ROWS[4:6]))
    store.forget(Selection(ids=(1,)))
    return store


CALLS: dict[str, Callable[[LocalStore], object]] = {
    "one row": lambda store: store.add("a", batch(ROWS[6:7])),
    "rows of a new chat": lambda store: store.add("c", batch(ROWS[6:9])),
    "rows and an encoder": lambda store: store.add("b", batch(ROWS[6:9], encoder="one")),
    "new row": lambda store: store.update(2, Change(frozenset({"row", "text"}), row=ROWS[9], text="new")),
    "new text": lambda store: store.update(2, Change(frozenset({"text"}), text="new")),
    "some forgotten": lambda store: store.forget(Selection(ids=(0, 2, 5))),
    "chat forgotten": lambda store: store.forget(Selection(chat_id="a")),
    "compact": lambda store: store.compact(),
}


def _check(store: LocalStore, state: dict[int, tuple[Any, ...]]) -> None:
    """Check that searches, counts and later additions agree with what is held."""
    ids = sorted(state)
    rows = np.array([np.frombuffer(state[number][4], np.float32) for number in ids])
    assert pairs(store.search(ROWS[:1], 20, Selection())) == brute_force(rows, ids, ROWS[:1], 20)
    counts = {name: held.rows for name, held in store.chats().items()}
    assert counts == {name: sum(one[0] == name for one in state.values()) for name in counts}
    (added,) = store.add("a", batch(ROWS[10:11]))
    assert added not in state
    found = pairs(store.search(ROWS[10:11], 1, Selection()))[0]
    assert found[0][0] == added


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_at_any_line_leaves_all_or_nothing(name: str) -> None:
    _interrupt(name, None, 1)


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_in_a_folder_leaves_all_or_nothing(name: str, tmp_path: Path) -> None:
    # Each line takes a dozen flushes of the disk: some here, all in the slow set.
    _interrupt(name, tmp_path, 29)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_at_any_line_in_a_folder_leaves_all_or_nothing(name: str, tmp_path: Path) -> None:
    _interrupt(name, tmp_path, 1)


def _interrupt(name: str, folder: Path | None, step: int) -> None:
    call = CALLS[name]
    store = _filled(folder and folder / "whole")
    before = everything(store)
    with Interrupt(-1) as interrupt:
        call(store)
    lines = -1 - interrupt.left
    after = everything(store)
    store.close()
    assert lines > 10
    seen = set()
    for line in range(1, lines + 1, step):
        location = folder and folder / str(line)
        store = _filled(location)
        with pytest.raises(KeyboardInterrupt), Interrupt(line):
            call(store)
        state = everything(store)
        assert state in (before, after), line
        seen.add(state == after)
        _check(store, state)
        state = everything(store)
        store.close()
        if location is not None:
            store = opened(location)
            assert store.recovered == ()
            assert everything(store) == state
            files = {int(path.stem) for path in (location / "vectors").iterdir()}
            assert files == set(store._access.contents.chunks)
            store.close()
    assert False in seen or before == after


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "folder"])
def test_an_interrupt_while_things_are_put_in_order_is_made_good(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = _filled(tmp_path / "kept" if kept else None)
    before = everything(store)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(changes, "_publish", interrupted)  # after the commit
        patched.setattr(store._access, "_mend", interrupted)
        with pytest.raises(KeyboardInterrupt):
            store.add("c", batch(ROWS[6:9]))
    after = everything(store)
    assert len(after) == len(before) + 3
    _check(store, after)
    store.close()


def test_a_place_that_was_written_and_never_counted_is_written_over(tmp_path: Path) -> None:
    store = _filled(tmp_path / "kept")
    for _ in range(3):
        with pytest.raises(ValueError, match="zip"):
            store.add("a", batch(ROWS[6:9], texts=["too", "few"]))
    chunk = store._access.contents.chats["a"].chunks[0]
    assert chunk.disk_bytes == 64 + 4 * 16
    _check(store, everything(store))
    store.close()
