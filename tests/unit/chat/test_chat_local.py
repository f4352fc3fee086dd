"""The store of one process, in memory and in a folder."""

from __future__ import annotations

import gc
import json
import os
import sqlite3
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.chat.local_stores import batch, brute_force, everything, opened, pairs, units
from titan_nb.chat.chunk import Chunk
from titan_nb.chat.local import LocalStore
from titan_nb.chat.store import Change, Fading, Selection
from titan_nb.chat.where import read_where
from titan_nb.errors import ChatError, ResourceError

ALL = Selection()


@pytest.fixture(params=["memory", "folder"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "memory" else tmp_path / "kept"


@pytest.fixture
def store(location: Path | None) -> Iterator[LocalStore]:
    made = opened(location)
    yield made
    made.close()


def test_rows_are_numbered_over_all_chats(store: LocalStore) -> None:
    assert store.add("a", batch(units(3))) == [0, 1, 2]
    assert store.add("b", batch(units(2, seed=1))) == [3, 4]
    assert store.add("a", batch(units(1, seed=2))) == [5]
    assert list(store.chats()) == ["a", "b"]
    assert {name: held.rows for name, held in store.chats().items()} == {"a": 4, "b": 2}


def test_a_search_is_brute_force_in_one_chat_and_in_all(store: LocalStore) -> None:
    rows = units(400, 16)
    rows[100] = rows[7]
    for first in range(0, 400, 50):
        store.add(f"chat {first // 50}", batch(rows[first : first + 50]))
    queries = np.concatenate([units(3, 16, seed=9), rows[7:8]])
    found = store.search(queries, 6, ALL)
    assert found.certified
    assert pairs(found) == brute_force(rows, range(400), queries, 6)
    in_one = store.search(queries, 60, Selection(chat_id="chat 2"))
    assert pairs(in_one) == brute_force(rows[100:150], range(100, 150), queries, 60)
    best = in_one.found[3][0].item
    assert (best.id, best.chat_id, best.text, best.time) == (100, "chat 2", "text 0", 0.0)


def test_nothing_is_found_where_nothing_is(store: LocalStore) -> None:
    query = units(2)
    assert store.search(query, 3, ALL).found == [[], []]
    store.add("a", batch(units(3)))
    assert store.search(query, 3, Selection(chat_id="b")).found == [[], []]
    assert store.search(query, 3, Selection(ids=())).found == [[], []]
    assert store.get([7]) == {}
    assert list(store.items(Selection(chat_id="b"))) == []
    assert store.forget(Selection(chat_id="b")) == 0


def test_a_batch_may_be_larger_than_a_chunk(store: LocalStore) -> None:
    rows = units(70_000, 2)
    assert store.add("a", batch(rows[:69_000])) == list(range(69_000))
    store.add("a", batch(rows[69_000:]))
    assert store.chats()["a"].rows == 70_000
    embeddings = store.get([0, 65_535, 65_536, 69_000, 69_999], embeddings=True)
    for number, item in embeddings.items():
        assert np.array_equal(item.embedding, rows[number])  # type: ignore[arg-type]
    scores = (rows.astype(np.float64) * rows[66_000].astype(np.float64)).sum(axis=1).round(12)
    best = sorted(range(70_000), key=lambda number: (-scores[number], number))[:5]
    assert [number for number, _ in pairs(store.search(rows[66_000:66_001], 5, ALL))[0]] == best


def test_ids_may_be_given(store: LocalStore) -> None:
    assert store.add("a", batch(units(2), ids=[10, 5])) == [10, 5]
    assert store.add("a", batch(units(1, seed=1))) == [11]
    assert store.add("a", batch(units(1, seed=2), ids=[2**63 - 1])) == [2**63 - 1]
    assert store.add("a", batch(units(1, seed=3))) == [12], "a hash moves no other ids"
    assert [item.id for item in store.items(ALL)] == [5, 10, 11, 12, 2**63 - 1]


@pytest.mark.parametrize("taken", [[20, 10, 5], [5]])
def test_a_taken_id_is_refused_by_name_and_nothing_is_stored(store: LocalStore, taken: list[int]) -> None:
    store.add("a", batch(units(2), ids=[10, 5]))
    before = everything(store)
    with pytest.raises(
        ChatError, match=rf"row {max(0, len(taken) - 2)} cannot have the id {10 if taken[1:] else 5}"
    ):
        store.add("b" if taken[1:] else "a", batch(units(len(taken), seed=4), ids=taken))
    assert everything(store) == before
    assert list(store.chats()) == ["a"]
    assert store.add("b", batch(units(1))) == [11]


def test_no_id_is_given_twice(location: Path | None) -> None:
    store = opened(location)
    store.add("a", batch(units(3)))
    store.forget(Selection(chat_id="a"))
    assert store.add("a", batch(units(1))) == [3]
    store.forget(Selection(ids=(3,)))
    store.compact()
    if location is not None:
        store.close()
        store = opened(location)
    assert store.add("a", batch(units(1))) == [4]
    store.close()


def test_a_chat_takes_rows_of_one_dimension_and_encoder(store: LocalStore) -> None:
    store.add("a", batch(units(2, 4)))
    store.add("b", batch(units(2, 6), encoder="one"))
    with pytest.raises(ChatError, match="row 0 has 6 numbers, and chat 'a' holds rows of 4"):
        store.add("a", batch(units(1, 6)))
    with pytest.raises(ChatError, match="'two', and chat 'b' holds rows of 'one'"):
        store.add("b", batch(units(1, 6), encoder="two"))
    store.add("b", batch(units(1, 6)))
    store.add("a", batch(units(1, 4), encoder="two"))
    assert {name: held.encoder for name, held in store.chats().items()} == {"a": "two", "b": "one"}
    with pytest.raises(ChatError, match="'one'"):
        store.update(0, Change(frozenset({"row"}), row=units(1, 4)[0], encoder="one"))
    with pytest.raises(ChatError, match="the new row has 6 numbers"):
        store.update(0, Change(frozenset({"row"}), row=units(1, 6)[0]))


def test_a_search_leaves_out_what_the_query_does_not_fit(store: LocalStore) -> None:
    store.add("a", batch(units(2, 4), encoder="one"))
    store.add("b", batch(units(2, 6), encoder="two"))
    store.add("c", batch(units(2, 6)))
    found = store.search(units(1, 6), 9, ALL, encoder="three")
    assert {match.item.chat_id for match in found.found[0]} == {"c"}
    assert len(store.search(units(1, 6), 9, ALL).found[0]) == 4
    with pytest.raises(ChatError, match="the query has 6 numbers, and chat 'a' holds rows of 4"):
        store.search(units(1, 6), 9, Selection(chat_id="a"))
    with pytest.raises(ChatError, match="the query has 5 numbers, and the chats hold rows of 4, 6"):
        store.search(units(1, 5), 9, ALL)
    with pytest.raises(ChatError, match="from the encoder 'two', and no chat with rows of 4 numbers does"):
        store.search(units(1, 4), 9, ALL, encoder="two")


def test_selections_go_before_the_search(store: LocalStore) -> None:
    rows = units(300, 12)
    roles = ["user", "bot", "tool"]
    metadata = [json.dumps({"role": roles[number % 3], "cell": number}) for number in range(300)]
    for first in (0, 100, 200):
        part = slice(first, first + 100)
        times = [float(number) for number in range(first, first + 100)]
        store.add(f"c{first}", batch(rows[part], metadata=metadata[part], times=times))
    query = units(1, 12, seed=5)
    cases: list[tuple[dict[str, Any], Any]] = [
        ({"since": 250.0}, lambda number: number >= 250),
        ({"until": 20.0}, lambda number: number < 20),
        ({"since": 90.0, "until": 120.0}, lambda number: 90 <= number < 120),
        ({"ids": (3, 150, 299, 4000)}, lambda number: number in (3, 150, 299)),
        ({"ids": (3, 150, 299), "chat_id": "c100"}, lambda number: number == 150),
        ({"ids": tuple(range(0, 3000, 2)), "since": 10.0}, lambda number: number % 2 == 0 and number >= 10),
        ({"where": read_where({"role": "bot"})}, lambda number: number % 3 == 1),
        (
            {"where": read_where({"role": "bot", "cell": {"$lt": 30}})},
            lambda number: number % 3 == 1 and number < 30,
        ),
        ({"where": read_where({"name": {"$exists": False}}), "chat_id": "c0"}, lambda number: number < 100),
    ]
    for fields, wanted in cases:
        selection = Selection(**fields)
        ids = [number for number in range(300) if wanted(number)]
        assert pairs(store.search(query, 7, selection)) == brute_force(rows[ids], ids, query, 7), fields
        assert [item.id for item in store.items(selection)] == ids, fields


def test_scores_fade_with_age(store: LocalStore) -> None:
    rows = np.repeat(units(1, 4), 4, axis=0)
    store.add("a", batch(rows, times=[100.0, 90.0, 0.0, 200.0]))
    store.forget(Selection(ids=(1,)))
    found = store.search(rows[:1], 4, ALL, fading=Fading(half_life_seconds=50.0, floor=0.4, now=100.0))
    assert pairs(found)[0] == [(0, pytest.approx(1.0)), (3, pytest.approx(1.0)), (2, pytest.approx(0.4))]


def test_an_item_can_be_changed(store: LocalStore) -> None:
    rows = units(5)
    store.add("a", batch(rows))
    store.update(1, Change(frozenset({"text"}), text="other"))
    store.update(2, Change(frozenset({"metadata"}), metadata='{"n": 1}'))
    new = units(1, seed=3)
    store.update(3, Change(frozenset({"row", "text"}), row=new[0], text=None, encoder="one"))
    held = store.get([1, 2, 3], embeddings=True)
    assert [(held[one].text, held[one].metadata) for one in (1, 2, 3)] == [
        ("other", None),
        ("text 2", '{"n": 1}'),
        (None, None),
    ]
    assert [held[one].time for one in (1, 2, 3)] == [1.0, 2.0, 3.0]
    rows[3] = new[0]
    assert pairs(store.search(new, 5, ALL)) == brute_force(rows, range(5), new, 5)
    assert store.chats()["a"].rows == 5
    assert store.chats()["a"].encoder == "one"
    with pytest.raises(ChatError, match="there is no item 9"):
        store.update(9, Change(frozenset({"text"}), text="x"))


def test_what_is_forgotten_is_gone(store: LocalStore) -> None:
    rows = units(10)
    store.add("a", batch(rows[:6]))
    store.add("b", batch(rows[6:]))
    assert store.forget(Selection(ids=(1, 7, 99))) == 2
    assert store.forget(Selection(chat_id="a", since=4.0)) == 2
    left = [0, 2, 3, 6, 8, 9]
    assert pairs(store.search(rows[1:2], 10, ALL)) == brute_force(rows[left], left, rows[1:2], 10)
    assert store.forget(Selection(chat_id="a")) == 3
    assert list(store.chats()) == ["b"]
    assert store.forget(Selection(until=100.0)) == 3
    assert store.chats() == {}
    assert store.search(rows[:1], 3, ALL).found == [[]]
    assert store.add("a", batch(units(1, 5))) == [10], "a chat that is gone takes any dimension"
    assert store.forget(ALL) == 1


def test_a_chat_says_when_something_was_added(store: LocalStore) -> None:
    before = time.time()
    store.add("a", batch(units(2)))
    first = store.chats()["a"]
    assert before - 1 <= first.last_added.timestamp() <= time.time() + 1
    assert first.dimension == 8
    assert first.bytes >= 2 * 8 * 4
    store.add("a", batch(units(1)))
    assert store.chats()["a"].last_added >= first.last_added


def test_items_come_by_number_and_without_those_forgotten_meanwhile(store: LocalStore) -> None:
    rows = units(1200, 3)
    store.add("a", batch(rows))
    store.update(0, Change(frozenset({"row"}), row=rows[5]))
    items = store.items(ALL, embeddings=True)
    first = next(items)
    assert first.id == 0
    assert np.array_equal(first.embedding, rows[5])  # type: ignore[arg-type]
    store.forget(Selection(ids=(700,)))
    assert [item.id for item in items] == [number for number in range(1, 1200) if number != 700]


def test_embeddings_are_copies(store: LocalStore) -> None:
    rows = units(2)
    store.add("a", batch(rows.copy()))
    store.get([0], embeddings=True)[0].embedding[:] = 9  # type: ignore[index]
    assert np.array_equal(store.get([0], embeddings=True)[0].embedding, rows[0])  # type: ignore[arg-type]


def test_what_is_added_may_be_changed_afterwards(store: LocalStore) -> None:
    rows = units(2)
    given = rows.copy()
    store.add("a", batch(given))
    given[:] = 0
    assert np.array_equal(store.get([1], embeddings=True)[1].embedding, rows[1])  # type: ignore[arg-type]


def test_texts_of_any_kind_and_size(store: LocalStore) -> None:
    texts = ["", "a\0b", "ключ 😀 'quoted' \"too\"", "x" * 10_000_000, None]
    store.add('chat "quoted"; -- ключ', batch(units(5), texts=texts))
    assert [item.text for item in store.items(ALL)] == texts
    assert list(store.chats()) == ['chat "quoted"; -- ключ']


def test_nothing_can_be_done_after_close(store: LocalStore) -> None:
    store.add("a", batch(units(1)))
    store.close()
    store.close()
    for call in (store.chats, lambda: store.add("a", batch(units(1))), lambda: store.get([0])):
        with pytest.raises(ChatError, match="was closed"):
            call()


def test_a_forked_child_is_refused(store: LocalStore) -> None:
    store.add("a", batch(units(1)))
    child = os.fork()
    if child == 0:
        refused = 0
        for call in (store.chats, lambda: store.add("a", batch(units(1)))):
            try:
                call()
            except ChatError as error:
                refused += "forked" in str(error)
        store._access._let_go()  # what the end of a process runs
        os._exit(refused)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    assert store.add("a", batch(units(1))) == [1]


def test_tiers_tell_what_is_where(store: LocalStore, location: Path | None) -> None:
    store.add("a", batch(units(100)))
    held = store.tiers()
    assert held["gpu"] == 0
    assert held["ram" if location is None else "disk"] >= 100 * 8 * 4


def test_memory_that_is_short_is_named_and_changes_nothing(
    store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.add("a", batch(units(3)))
    before = everything(store)

    def short(self: object, *_: object) -> None:
        raise MemoryError("Unable to allocate 1.00 TiB")

    with monkeypatch.context() as patched:
        patched.setattr(Chunk, "write", short)
        with pytest.raises(ResourceError, match="memory is short on the host"):
            store.add("b", batch(units(2)))
    assert everything(store) == before
    assert store.add("b", batch(units(2))) == [3, 4]


ROWS = units(6, 3, seed=1)
"""Few, so that many are equal."""

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("ab"), st.lists(st.integers(0, 5), min_size=1, max_size=4)),
        st.tuples(st.just("row"), st.integers(0, 30), st.integers(0, 5)),
        st.tuples(st.just("text"), st.integers(0, 30), st.text(max_size=3)),
        st.tuples(st.just("forget"), st.lists(st.integers(0, 30), max_size=5), st.none()),
        st.tuples(st.just("chat"), st.sampled_from("ab"), st.none()),
        st.tuples(st.just("compact"), st.none(), st.none()),
        st.tuples(st.just("disk"), st.none(), st.none()),
        st.tuples(st.just("ram"), st.none(), st.none()),
        st.tuples(st.just("reopen"), st.none(), st.none()),
        st.tuples(st.just("search"), st.none(), st.none()),
    ),
    max_size=14,
)


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "folder"])
@given(steps=STEPS)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_order_of_calls_leaves_what_a_dict_would_hold(
    tmp_path_factory: pytest.TempPathFactory, kept: bool, steps: list[Any]
) -> None:
    location = tmp_path_factory.mktemp("any") / "kept" if kept else None
    store = opened(location)
    model: dict[int, tuple[str, int, str | None]] = {}
    given_ids = 0
    try:
        for what, one, two in steps:
            if what == "add":
                ids = store.add(one, batch(ROWS[two].copy(), times=[0.0] * len(two)))
                assert ids == list(range(given_ids, given_ids + len(two)))
                given_ids += len(two)
                for order, (number, row) in enumerate(zip(ids, two, strict=True)):
                    model[number] = one, row, f"text {order}"
            elif what in ("row", "text") and one in model:
                chat, row, text = model[one]
                if what == "row":
                    store.update(one, Change(frozenset({"row"}), row=ROWS[two]))
                    model[one] = chat, two, text
                else:
                    store.update(one, Change(frozenset({"text"}), text=two))
                    model[one] = chat, row, two
            elif what == "forget":
                gone = model.keys() & set(one)
                assert store.forget(Selection(ids=tuple(sorted(set(one))))) == len(gone)
                model = {number: held for number, held in model.items() if number not in gone}
            elif what == "chat":
                gone = {number for number, held in model.items() if held[0] == one}
                assert store.forget(Selection(chat_id=one)) == len(gone)
                model = {number: held for number, held in model.items() if number not in gone}
            elif what == "compact":
                store.compact()
                assert not any(chunk.dead for chunk in store._access.contents.chunks.values())
            elif what in ("disk", "ram"):
                for chunk in store._access.contents.chunks.values():
                    chunk.to_disk() if what == "disk" else chunk.to_ram()
            elif what == "reopen" and kept:
                store.close()
                store = opened(location)
                assert store.recovered == ()
            ids = sorted(model)
            expected = brute_force(np.array([ROWS[model[number][1]] for number in ids]), ids, ROWS[:2], 4)
            if what == "search" and ids:
                assert pairs(store.search(ROWS[:2], 4, ALL)) == expected
        assert everything(store) == {
            number: (chat, text, None, 0.0, ROWS[row].tobytes())
            for number, (chat, row, text) in model.items()
        }
        ids = sorted(model)
        if ids:
            expected = brute_force(np.array([ROWS[model[number][1]] for number in ids]), ids, ROWS[:2], 4)
            assert pairs(store.search(ROWS[:2], 4, ALL)) == expected
        rows_by_chat = {name: held.rows for name, held in store.chats().items()}
        assert rows_by_chat == {
            chat: sum(held[0] == chat for held in model.values())
            for chat in {held[0] for held in model.values()}
        }
    finally:
        store.close()


def test_a_disk_that_is_full_is_named_and_changes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path / "kept")
    store.add("a", batch(units(3)))
    before = everything(store)
    files = {path.name: path.stat().st_size for path in (tmp_path / "kept" / "vectors").iterdir()}
    connection: sqlite3.Connection = store._access.catalog.connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(ResourceError, match="full"):
        store.add("a", batch(units(5, seed=1), texts=["x" * 20_000] * 5))
    with pytest.raises(ResourceError, match="full"):
        store.add("new", batch(units(5, seed=1), texts=["x" * 20_000] * 5))
    assert everything(store) == before
    assert {path.name: path.stat().st_size for path in (tmp_path / "kept" / "vectors").iterdir()} == files
    connection.execute("PRAGMA max_page_count = 100000")
    assert store.add("a", batch(units(5, seed=1), texts=["x" * 20_000] * 5)) == [3, 4, 5, 6, 7]
    store.close()


def test_what_sqlite_cannot_keep_is_refused(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add("a", batch(units(2)))
    before = everything(store)

    def too_big(*_: object) -> None:
        raise sqlite3.DataError("string or blob too big")

    with monkeypatch.context() as patched:
        patched.setattr(store._access.catalog, "add_items", too_big)
        with pytest.raises(ChatError, match="string or blob too big"):
            store.add("a", batch(units(2)))
    assert everything(store) == before


def test_a_catalogue_that_breaks_while_it_is_read_is_named(store: LocalStore) -> None:
    store.add("a", batch(units(2)))
    store._access.catalog.connection.execute("DROP TABLE items")
    with pytest.raises(ChatError, match="no such table: items"):
        store.get([0])


def test_many_equal_rows_tie_by_id(store: LocalStore) -> None:
    row = units(1)
    store.add("a", batch(np.repeat(row, 3000, axis=0), ids=[*range(2999, -1, -1)]))
    found = store.search(row, 4, ALL).found[0]
    assert [match.item.id for match in found] == [0, 1, 2, 3]
    assert found[0].item.text == "text 2999"


def test_an_id_given_twice_is_forgotten_once(store: LocalStore) -> None:
    store.add("a", batch(units(1200)))
    assert store.forget(Selection(ids=(5, *range(600), 5))) == 600
    assert store.chats()["a"].rows == 600


def test_what_is_forgotten_or_compacted_takes_no_memory(store: LocalStore) -> None:
    store.add("a", batch(units(5)))
    store.add("b", batch(units(5)))
    store.forget(Selection(ids=(0,)))
    held = [weakref.ref(chunk) for chunk in store._access.contents.chunks.values()]
    store.search(units(1), 3, ALL)
    store.compact()
    store.forget(Selection(chat_id="b"))
    gc.collect()
    assert [one() for one in held] == [None, None]


def test_dead_rows_stay_dead_when_more_die_before_anybody_searched(tmp_path: Path) -> None:
    store = opened(tmp_path / "kept")
    store.add("a", batch(units(10)))
    store.forget(Selection(ids=(3,)))
    store.close()
    store = opened(tmp_path / "kept")
    store.forget(Selection(ids=(5,)))
    store.update(7, Change(frozenset({"row"}), row=units(1, seed=4)[0]))
    found = store.search(units(1), 20, ALL).found[0]
    assert sorted(match.item.id for match in found) == [0, 1, 2, 4, 6, 7, 8, 9]
    store.close()


def test_a_search_leaves_nothing_to_the_garbage_collector(store: LocalStore) -> None:
    store.add("a", batch(units(100)))
    store.search(units(2), 3, ALL)
    gc.collect()
    gc.disable()
    try:
        store.search(units(2), 3, ALL)
        store.search(units(1), 3, Selection(chat_id="a"))
        assert gc.collect() == 0
    finally:
        gc.enable()
