"""The statements of a local memory."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from titan_nb.chat.catalog import CHUNK_ROWS, Catalog, Counters
from titan_nb.chat.store import Selection
from titan_nb.chat.where import read_where


def _connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    made = Catalog(_connection())
    yield made
    made.connection.close()


def _item(place: int, number: int, **metadata: Any) -> tuple[int, int, float, str, str | None]:
    return place, number, float(number), f"text {number}", json.dumps(metadata) if metadata else None


def test_tables_are_made_once(catalog: Catalog) -> None:
    catalog.set_counters(Counters(5, 6, 7))
    again = Catalog(catalog.connection)
    assert again.counters() == Counters(5, 6, 7)
    assert not catalog.connection.in_transaction


def test_a_fresh_catalogue_is_empty(catalog: Catalog) -> None:
    assert catalog.counters() == Counters(0, 1, 0)
    assert catalog.chats() == []
    assert catalog.chunks() == []
    assert catalog.bytes > 0


def test_what_was_not_committed_is_forgotten(catalog: Catalog) -> None:
    catalog.rollback()
    catalog.begin()
    catalog.add_chat("a", 4, None)
    catalog.rollback()
    assert catalog.chats() == []


def test_items_are_found_by_place_and_by_id_however_many(catalog: Catalog) -> None:
    catalog.add_items(_item(place, 10_000 - place) for place in range(1300))
    assert sorted(row[0] for row in catalog.at_places(range(1300))) == list(range(1300))
    assert sorted(row[1] for row in catalog.with_ids(range(8_701, 10_001))) == list(range(8_701, 10_001))
    assert catalog.ids_at([3, 1299, 5000]) == {3: 9_997, 1299: 8_701}
    assert catalog.taken([9_997, 1]) == [9_997]
    assert catalog.at_places([]) == []


def test_one_chunk_ends_where_the_next_begins(catalog: Catalog) -> None:
    catalog.add_items([_item(CHUNK_ROWS, 1), _item(2 * CHUNK_ROWS - 1, 2), _item(2 * CHUNK_ROWS, 3)])
    assert list(catalog.places(1)) == [CHUNK_ROWS, 2 * CHUNK_ROWS - 1]
    assert catalog.times(1) == [(CHUNK_ROWS, 1.0), (2 * CHUNK_ROWS - 1, 2.0)]
    assert (catalog.end(0), catalog.end(1), catalog.end(2)) == (0, CHUNK_ROWS, 1)
    catalog.drop_chunk(1)
    assert [row[1] for row in catalog.with_ids([1, 2, 3])] == [3]


def test_selections(catalog: Catalog) -> None:
    catalog.add_items(_item(place, place, role="user" if place % 2 else "bot") for place in range(600))
    catalog.add_item(_item(CHUNK_ROWS, 1000))

    def ids(chunks: tuple[int, ...] = (0, 1), **fields: Any) -> list[int]:
        return sorted(number for _, number in catalog.select(Selection(**fields), chunks))

    assert ids() == [*range(600), 1000]
    assert ids(chunks=(1,)) == [1000]
    assert ids(chunks=(1,), ids=(3, 1000)) == [1000]
    assert ids(since=598.0) == [598, 599, 1000]
    assert ids(until=2.0) == [0, 1]
    user = read_where({"role": "user"})
    assert ids(where=user) == list(range(1, 600, 2))
    assert ids(where=user, since=590.0, ids=tuple(range(700))) == [591, 593, 595, 597, 599]
    assert ids(where=read_where({"role": {"$ne": "user"}}), since=597.0) == [598, 1000]
    assert ids(ids=()) == []


def test_a_verdict_holds_for_all_items_of_the_same_text(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.add_items(_item(place, place, kind=place % 3) for place in range(5000))
    read = []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: read.append(text) or loads(text))
    found = list(catalog.select(Selection(where=read_where({"kind": 1})), [0]))
    assert len(found) == 1667
    assert len(read) == 3


def test_more_texts_than_are_kept_in_mind(catalog: Catalog) -> None:
    catalog.add_items(_item(place, place, cell=place) for place in range(5000))
    found = list(catalog.select(Selection(where=read_where({"cell": {"$gte": 4998}})), [0]))
    assert found == [(4998, 4998), (4999, 4999)]


def test_last_id(catalog: Catalog) -> None:
    assert catalog.last_id(100) == -1
    catalog.add_items([_item(0, 7), _item(1, 100)])
    assert catalog.last_id(100) == 7


def test_room_is_given_back(catalog: Catalog) -> None:
    empty_bytes = catalog.bytes
    catalog.add_items((place, place, 0.0, "x" * 1000, None) for place in range(500))
    full_bytes = catalog.bytes
    catalog.drop_items(range(500))
    catalog.vacuum()
    assert catalog.bytes == empty_bytes < full_bytes
