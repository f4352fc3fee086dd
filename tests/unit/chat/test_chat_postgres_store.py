"""The store on two real servers."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.fakes.postgres import PASSWORD
from titan_nb.chat.postgres import PostgresStore, contents
from titan_nb.chat.postgres import store as store_module
from titan_nb.chat.store import Batch, Change, Selection
from titan_nb.chat.where import Condition
from titan_nb.errors import ChatError, ResourceError

EVERYTHING = Selection()


def rows(count: int, dimension: int = 4, seed: int = 0) -> np.ndarray:
    table = np.random.default_rng(seed).normal(size=(count, dimension))
    return (table / np.linalg.norm(table, axis=1, keepdims=True)).astype(np.float32)


def batch(count: int, **more: Any) -> Batch:
    given = {
        "rows": rows(count),
        "texts": [f"text {number}" for number in range(count)],
        "metadata": [f'{{"n": {number}}}' for number in range(count)],
        "times": [float(number) for number in range(count)],
    }
    return Batch(**(given | more))


def chats_on_both(store: PostgresStore) -> list[str]:
    """Return the name of one chat on each server."""
    of = store._members.of
    names = [f"chat {number}" for number in range(100)]
    return [next(name for name in names if of(name) is server) for server in store._members.servers]


def test_items_come_back_as_they_were_given_bit_for_bit(store: PostgresStore) -> None:
    table = rows(3, 500)
    table[1, :4] = [1e-45, -0.0, 1.17549435e-38, -1e-40]
    notes = ['{"z": 1.0, "a": 1e+23, "ü": "\\u0000", "b": -0.0}', None, "{}"]
    texts = ["Grüße 🙂\n\t", None, ""]
    ids = store.add("chat Ä", Batch(table, texts, notes, [1.5, 1e-9, 253402300799.0], encoder="E"))
    held = store.get([*ids, 10**6], embeddings=True)
    assert sorted(held) == sorted(ids)
    for number, text, note, time, row in zip(
        ids, texts, notes, [1.5, 1e-9, 253402300799.0], table, strict=True
    ):
        item = held[number]
        assert (item.id, item.chat_id, item.text, item.metadata, item.time) == (
            number,
            "chat Ä",
            text,
            note,
            time,
        )
        assert np.array_equal(item.embedding.view(np.uint32), row.view(np.uint32))
    assert store.get(ids)[ids[0]].embedding is None
    assert store.get([]) == {}


def test_a_large_text_and_many_rows_fit_in_one_batch(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_COPIED_ROWS", 7)
    texts = ["x" * 10_000_000, *(["y"] * 29)]
    ids = store.add("chat", batch(30, texts=texts))
    assert ids == sorted(set(ids))
    held = store.get(ids)
    assert [held[number].text for number in ids] == texts


def test_numbers_are_unique_over_all_servers(store: PostgresStore) -> None:
    one, other = chats_on_both(store)
    first = store.add(one, batch(3)) + store.add(other, batch(3)) + store.add(one, batch(2))
    assert sorted(first) == [0, 1, 2, 3, 4, 5, 6, 8]
    assert store.add(other, batch(4, ids=[100, 101, 2**63 - 1, 7])) == [100, 101, 2**63 - 1, 7]
    later = store.add(one, batch(2)) + store.add(other, batch(2))
    assert not {*later} & {*first, 100, 101, 7}
    for taken in (100, first[0], 2**63 - 1):
        with pytest.raises(ChatError, match=f"^id {taken} is taken: forget that item first"):
            store.add(one, batch(2, ids=[50, taken]))
    # Nothing of a batch that was refused is there.
    assert 50 not in store.get([50])
    assert len(store.get(range(200))) == len(first) + len(later) + 3


def test_dropped_numbers_are_not_given_again(store: PostgresStore) -> None:
    one, _ = chats_on_both(store)
    ids = store.add(one, batch(3))
    store.forget(EVERYTHING)
    assert not {*store.add(one, batch(3))} & {*ids}


def test_two_threads_and_two_memories_add_at_once(store: PostgresStore, urls: list[str]) -> None:
    other = PostgresStore(urls[::-1])
    names = chats_on_both(store)
    given: list[int] = []
    failed: list[BaseException] = []

    def work(which: PostgresStore, seed: int) -> None:
        try:
            for step in range(6):
                brought = [10_000 + 100 * seed + step] if step % 3 == 0 else None
                count = 1 if brought else 5
                given.extend(which.add(names[(seed + step) % 2], batch(count, ids=brought)))
                which.search(rows(1), 3, EVERYTHING)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=((store, other)[seed % 2], seed)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed
    assert len(given) == len({*given}) == 4 * (2 + 4 * 5)
    assert sum(chat.rows for chat in other.chats().values()) == len(given)
    assert {item.id for item in store.items(EVERYTHING)} == {*given}
    other.close()


def test_two_new_batches_of_one_new_chat_agree_on_its_dimension(store: PostgresStore) -> None:
    failed: list[BaseException] = []

    def work(dimension: int) -> None:
        try:
            store.add("chat", batch(5, rows=rows(5, dimension)))
        except ChatError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(dimension,)) for dimension in (3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(failed) == 1
    assert "and chat 'chat' holds rows of" in str(failed[0])
    assert store.chats()["chat"].rows == 5


def test_items_are_listed_by_number_in_pages(store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "_PAGE_ITEMS", 7)
    one, other = chats_on_both(store)
    ids = store.add(one, batch(20)) + store.add(other, batch(15))
    listed = [*store.items(EVERYTHING, embeddings=True)]
    assert [item.id for item in listed] == sorted(ids)
    assert np.array_equal(listed[0].embedding, rows(20)[0])
    assert [item.id for item in store.items(Selection(one))] == ids[:20]
    assert [item.id for item in store.items(Selection(ids=tuple(ids[18:22])))] == sorted(ids[18:22])
    where = Selection(where=(Condition(("n",), "$lt", 3),))
    assert [json.loads(item.metadata)["n"] for item in store.items(where)] == [0, 0, 1, 1, 2, 2]
    assert [item.time for item in store.items(Selection(one, since=2.0, until=4.0))] == [2.0, 3.0]
    assert [*store.items(Selection("none"))] == [*store.items(Selection("\0"))] == []
    # One that is left in the middle holds no connection.
    unfinished = store.items(EVERYTHING)
    next(unfinished)
    store.forget(EVERYTHING)
    assert len([*unfinished]) < 14


def test_an_item_is_changed_where_it_is(store: PostgresStore) -> None:
    one, other = chats_on_both(store)
    store.add(one, batch(3))
    ids = store.add(other, batch(3))
    new = rows(1, seed=9)[0]
    store.update(ids[1], Change(frozenset({"text", "metadata"}), text="new", metadata='{"n": "ä"}'))
    store.update(ids[2], Change(frozenset({"row"}), row=new, encoder="E"))
    store.update(ids[0], Change(frozenset({"text", "metadata"})))
    held = store.get(ids, embeddings=True)
    assert [held[number].text for number in ids] == [None, "new", "text 2"]
    assert [held[number].metadata for number in ids] == [None, '{"n": "ä"}', '{"n": 2}']
    assert np.array_equal(held[ids[2]].embedding, new)
    assert np.array_equal(held[ids[1]].embedding, rows(3)[1])
    assert store.chats()[other].encoder == "E"
    assert [item.id for item in store.items(Selection(where=(Condition(("n",), "$eq", "ä"),)))] == [ids[1]]
    with pytest.raises(ChatError, match=r"the embedding has 3 numbers, and chat .* holds rows of 4"):
        store.update(ids[0], Change(frozenset({"row"}), row=rows(1, 3)[0]))
    with pytest.raises(ChatError, match="the embedding comes from the encoder 'F'"):
        store.update(ids[0], Change(frozenset({"row"}), row=new, encoder="F"))
    with pytest.raises(ChatError, match="there is no item 999: it was forgotten, or never stored"):
        store.update(999, Change(frozenset({"text"}), text="new"))
    with pytest.raises(ChatError, match="the text of row 0 holds a NUL character"):
        store.update(ids[0], Change(frozenset({"text"}), text="a\0b"))


def test_items_and_chats_are_forgotten(store: PostgresStore) -> None:
    one, other = chats_on_both(store)
    mine, others = store.add(one, batch(10)), store.add(other, batch(10))
    assert store.forget(Selection(where=(Condition(("n",), "$in", (1, 2)),))) == 4
    assert store.forget(Selection(one, until=4.0)) == 2
    assert store.forget(Selection(ids=(mine[9], others[9], 999))) == 2
    assert store.forget(Selection(one, where=(Condition(("n",), "$eq", 8),))) == 1
    assert {name: chat.rows for name, chat in store.chats().items()} == {one: 4, other: 7}
    assert store.forget(Selection(one)) == 4
    assert [*store.chats()] == [other]
    assert store.forget(Selection(one)) == store.forget(Selection("\0")) == 0
    assert store.forget(EVERYTHING) == 7
    assert store.chats() == {}
    # A chat that is gone may come again with another dimension.
    store.add(one, batch(2, rows=rows(2, 9)))
    assert store.chats()[one].dimension == 9


def test_chats_tell_what_they_hold_the_oldest_first(store: PostgresStore) -> None:
    before = datetime.now(timezone.utc)
    one, other = chats_on_both(store)
    for name in (other, one, "third"):
        store.add(name, batch(2))
    store.add(other, batch(3, encoder="E"))
    chats = store.chats()
    assert [*chats] == [other, one, "third"]
    assert (chats[other].rows, chats[other].dimension, chats[other].encoder) == (5, 4, "E")
    assert chats[other].bytes == 5 * (4 * 4 + 8)
    assert chats[other].last_added > chats["third"].last_added >= before
    with pytest.raises(ChatError, match="row 0 comes from the encoder 'F', and chat"):
        store.add(other, batch(1, encoder="F"))
    with pytest.raises(ChatError, match="row 0 has 5 numbers, and chat"):
        store.add(other, batch(1, rows=rows(1, 5)))
    assert store.chats()[other].rows == 5


def test_compaction_gives_room_back(store: PostgresStore) -> None:
    one, other = chats_on_both(store)
    for name in (one, other):
        store.add(name, batch(500, rows=rows(500, 128)))
    ids = store.add(one, batch(1, rows=rows(1, 128)))
    store.update(ids[0], Change(frozenset({"row"}), row=rows(1, 128, 5)[0]))
    full = store.tiers()
    store.forget(Selection(where=(Condition(("n",), "$gte", 10),)))
    done = store.compact()
    assert done.before_bytes >= full["disk"] > done.after_bytes == store.tiers()["disk"]
    assert done.dropped_rows == 2 * 490 + 1
    assert store.compact().dropped_rows == 0
    assert len([*store.items(EVERYTHING)]) == 21


def test_what_postgres_cannot_hold_is_refused_before_anything_is_stored(store: PostgresStore) -> None:
    with pytest.raises(
        ChatError, match="the text of row 1 holds a NUL character or half of a surrogate pair"
    ):
        store.add("chat", batch(2, texts=["a", "b\0"]))
    with pytest.raises(ChatError, match="the chat_id holds a NUL"):
        store.add("\0", batch(1))
    with pytest.raises(ChatError, match="the chat_id takes more than 2000 bytes"):
        store.add("ä" * 1001, batch(1))
    with pytest.raises(ChatError, match="row 0 has 16001 numbers, and pgvector holds up to 16000"):
        store.add("chat", batch(1, rows=rows(1, 16_001)))
    assert store.chats() == {}
    longest = "".join(map(chr, np.random.default_rng(0).integers(33, 127, 2000).tolist()))
    store.add(longest, batch(1, rows=rows(1, 16_000)))
    held = next(store.items(EVERYTHING, embeddings=True))
    assert held.chat_id == longest
    assert np.array_equal(held.embedding, rows(1, 16_000)[0])


def test_a_full_disk_is_a_resource_error_and_leaves_nothing_behind(
    store: PostgresStore, urls: list[str]
) -> None:
    one, _ = chats_on_both(store)
    ids = store.add(one, batch(2))
    for url in urls:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(
                "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
                "$$BEGIN RAISE EXCEPTION 'no room' USING ERRCODE = '53100'; END$$"
            )
            connection.execute(
                "CREATE TRIGGER full_disk BEFORE INSERT ON titan_item FOR EACH ROW "
                "WHEN (NEW.text = 'text 5') EXECUTE FUNCTION full_disk()"
            )
    with pytest.raises(
        ResourceError, match=r"is short of disk or memory \(no room\): nothing of this was stored"
    ):
        store.add(one, batch(10))
    assert [item.id for item in store.items(EVERYTHING)] == ids
    assert store.chats()[one].rows == 2
    store.add(one, batch(5))


def test_nothing_shows_the_password(store: PostgresStore, urls: list[str]) -> None:
    assert PASSWORD in urls[1]
    shown = repr(store) + repr(store._members.servers) + repr(store._members)
    assert "127.0.0.1" in shown
    assert PASSWORD not in shown


def test_a_closed_store_says_so(urls: list[str]) -> None:
    store = PostgresStore(urls)
    store.close()
    store.close()
    with pytest.raises(ChatError, match="was closed: open it again"):
        store.chats()
