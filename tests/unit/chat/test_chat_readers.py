"""A folder that one store writes and others read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.chat.local_stores import batch, brute_force, everything, opened, pairs, units
from titan_nb.chat import local, recover
from titan_nb.chat.folder import Folder
from titan_nb.chat.store import Change, Selection
from titan_nb.errors import ChatError

ALL = Selection()


@contextlib.contextmanager
def disturbed(disturb: Callable[[int], object], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Call ``disturb`` before each look at the rows, with the look's number; give the looks so far."""
    original = local.search
    looks: list[int] = []

    def disturbed(*arguments: Any, **options: Any) -> object:
        looks.append(len(looks) + 1)
        disturb(looks[-1])
        return original(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(local, "search", disturbed)
        yield looks


def test_a_reader_sees_what_was_committed_at_its_next_call(place: Path) -> None:
    rows = units(30)
    writer = opened(place)
    reader = opened(place, "r")
    assert reader.chats() == {}
    writer.add("a", batch(rows[:10]))
    assert pairs(reader.search(rows[:2], 4, ALL)) == brute_force(rows[:10], range(10), rows[:2], 4)
    writer.add("a", batch(rows[10:20]))
    writer.add("b", batch(rows[20:]))
    assert pairs(reader.search(rows[:2], 4, ALL)) == brute_force(rows, range(30), rows[:2], 4)
    writer.update(0, Change(frozenset({"row"}), row=rows[1]))
    writer.forget(Selection(ids=(1, 2)))
    assert everything(reader) == everything(writer)
    writer.forget(Selection(chat_id="b"))
    writer.compact()
    assert everything(reader) == everything(writer)
    assert reader.chats() == writer.chats()
    query = rows[5:6]
    assert pairs(reader.search(query, 9, ALL)) == pairs(writer.search(query, 9, ALL))
    reader.close()
    assert writer.add("a", batch(rows[:1])) == [30]
    writer.close()


def test_a_reader_changes_nothing(place: Path) -> None:
    opened(place).close()
    reader = opened(place, "r")
    calls = (
        lambda: reader.add("a", batch(units(1))),
        lambda: reader.update(0, Change(frozenset({"text"}), text="x")),
        lambda: reader.forget(ALL),
        lambda: reader.compact(),
    )
    for call in calls:
        with pytest.raises(ChatError, match="was opened with mode='r': open it with mode='w'"):
            call()
    reader.close()


def test_a_reader_looks_again_when_the_writer_compacts_during_its_search(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = units(10)
    writer = opened(place)
    writer.add("a", batch(rows))
    reader = opened(place, "r")

    def disturb(looks: int) -> None:
        if looks == 1:
            writer.forget(Selection(ids=(0,)))
            writer.compact()

    with disturbed(disturb, monkeypatch) as looks:
        found = reader.search(rows[:1], 10, ALL)
    assert pairs(found) == brute_force(rows[1:], range(1, 10), rows[:1], 10)
    assert len(looks) == 2
    reader.close()
    writer.close()


def test_additions_during_its_search_do_not_make_a_reader_look_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = units(10)
    writer = opened(place)
    writer.add("a", batch(rows[:5]))
    reader = opened(place, "r")
    with disturbed(lambda _: writer.add("a", batch(rows[5:])), monkeypatch) as looks:
        found = reader.search(rows[:1], 10, ALL)
    assert pairs(found) == brute_force(rows[:5], range(5), rows[:1], 10)
    assert len(looks) == 1
    reader.close()
    writer.close()


def test_a_file_that_was_compacted_away_before_it_was_opened_is_looked_for_again(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = units(10)
    writer = opened(place)
    writer.add("a", batch(rows))
    reader = opened(place, "r")
    writer.forget(Selection(ids=(3,)))
    # The reader is reading all the time.
    writer._access.catalog.connection.execute("PRAGMA busy_timeout = 10")
    original = Folder.segment
    missed = []

    def late(self: Folder, number: int, dimension: int, count: int) -> object:
        if self.mode == "r" and not missed:
            missed.append(number)
            writer.compact()
        return original(self, number, dimension, count)

    with monkeypatch.context() as patched:
        patched.setattr(Folder, "segment", late)
        found = pairs(reader.search(rows[:1], 10, ALL))
    left = [0, 1, 2, *range(4, 10)]
    assert found == brute_force(rows[left], left, rows[:1], 10)
    assert missed == [1]
    reader.close()
    writer.close()


def test_a_file_that_is_really_missing_is_an_error(place: Path) -> None:
    writer = opened(place)
    writer.add("a", batch(units(3)))
    writer.close()
    next((place / "vectors").iterdir()).unlink()
    reader = opened(place, "r")
    with pytest.raises(ChatError, match="cannot be opened"):
        reader.search(units(1), 1, ALL)
    reader.close()


def test_an_interrupt_leaves_a_reader_that_goes_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = opened(place)
    writer.add("a", batch(units(3)))
    reader = opened(place, "r")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(reader._access.catalog, "rollback", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.chats()
    writer.add("a", batch(units(3)))
    assert reader.chats()["a"].rows == 6
    reader.close()
    writer.close()


def test_what_a_failing_disk_lost_is_told_and_counted(place: Path) -> None:
    rows = units(10)
    store = opened(place)
    store.add("a", batch(rows[:6]))
    store.add("a", batch(rows[6:]))
    store.add("b", batch(rows[:2]))
    store.forget(Selection(ids=(1, 7)))
    store.close()
    first, second = sorted((place / "vectors").iterdir())
    first.write_bytes(first.read_bytes()[:-1])
    second.write_bytes(second.read_bytes()[:-1])
    store = opened(place)
    assert {(lost.chat_id, lost.ids) for lost in store.recovered} == {("a", (6, 8, 9)), ("b", (10, 11))}
    assert {name: held.rows for name, held in store.chats().items()} == {"a": 5}
    left = [0, 2, 3, 4, 5]
    assert pairs(store.search(rows[:1], 10, ALL)) == brute_force(rows[left], left, rows[:1], 10)
    assert store.add("a", batch(rows[:1])) == [12]
    assert store.compact().dropped_rows == 1
    store.close()


def test_a_catalogue_that_cannot_be_read_is_named(place: Path) -> None:
    opened(place).close()
    kept = Folder.open(place)
    connection = kept.connect()
    connection.execute("DROP TABLE chunks")
    connection.execute("CREATE TABLE chunks (number)")
    connection.close()
    kept.close()
    with pytest.raises(ChatError, match=str(place)):
        opened(place, "r")


def test_a_folder_that_cannot_be_put_in_order_is_let_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(place).close()

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(recover, "recover", interrupted)
        with pytest.raises(KeyboardInterrupt):
            opened(place)
    opened(place).close()
