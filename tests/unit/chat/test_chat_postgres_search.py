"""The search over two real servers, against brute force in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.chat.postgres import PostgresStore, search
from titan_nb.chat.postgres.search import error_bound
from titan_nb.chat.store import Batch, Fading, Matches, Selection
from titan_nb.chat.where import Condition
from titan_nb.errors import ChatError

EVERYTHING = Selection()


def unit(rows: Any) -> np.ndarray:
    table = np.asarray(rows, np.float64)
    return (table / np.linalg.norm(table, axis=-1, keepdims=True)).astype(np.float32)


def fill(store: PostgresStore, rows: np.ndarray, chats: int = 8, **more: Any) -> np.ndarray:
    """Store rows with the numbers 0, 1, 2, ... in turn under several chats, and return the chat of each."""
    owners = np.arange(len(rows)) % chats
    for chat in range(chats):
        ids = np.flatnonzero(owners == chat)
        if len(ids):
            notes = [f'{{"n": {number}}}' for number in ids]
            times = [float(number) for number in ids]
            store.add(f"chat {chat}", Batch(rows[ids], [None] * len(ids), notes, times, ids.tolist(), **more))
    return owners


def brute(
    rows: np.ndarray, query: np.ndarray, k: int, among: Any = None, weights: Any = 1.0
) -> list[tuple[int, float]]:
    scores = ((rows.astype(np.float64) * query.astype(np.float64)).sum(axis=1) * weights).round(12) + 0.0
    ids = np.arange(len(rows)) if among is None else np.asarray(among)
    order = ids[np.lexsort((ids, -scores[ids]))][:k]
    return [(int(number), float(scores[number])) for number in order]


def pairs(matches: Matches) -> list[list[tuple[int, float]]]:
    return [[(match.item.id, match.score) for match in found] for found in matches.found]


def agree(found: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    assert [number for number, _ in found] == [number for number, _ in expected]
    assert [score for _, score in found] == pytest.approx(
        [score for _, score in expected], rel=0, abs=1.5e-12
    )


def test_results_are_those_of_brute_force(store: PostgresStore) -> None:
    random = np.random.default_rng(1)
    rows, queries = unit(random.normal(size=(600, 24))), unit(random.normal(size=(20, 24)))
    owners = fill(store, rows)
    assert all(len(server_chats(store, place)) for place in (0, 1))
    for k in (1, 7, 600, 1000):
        matches = store.search(queries, k, EVERYTHING)
        assert matches.certified
        for found, query in zip(pairs(matches), queries, strict=True):
            agree(found, brute(rows, query, k))
    one = store.search(queries[:1], 5, Selection("chat 3"))
    agree(pairs(one)[0], brute(rows, queries[0], 5, np.flatnonzero(owners == 3)))
    assert one.found[0][0].item.chat_id == "chat 3"
    assert one.found[0][0].item.time == one.found[0][0].item.id


def server_chats(store: PostgresStore, place: int) -> list[Any]:
    members = store._members
    with members.read_all([members.servers[place]]) as (cursor,):
        return cursor.execute("SELECT id FROM titan_chat").fetchall()


def test_near_ties_and_equal_rows_are_told_apart_in_float64(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """2,000 rows closer to each other than pgvector's arithmetic can see, 500 of them equal."""
    monkeypatch.setattr(search, "_PAGE", 128)
    random = np.random.default_rng(2)
    middle = random.normal(size=64)
    middle /= np.linalg.norm(middle)
    rows = unit(middle + 3e-7 * random.normal(size=(2000, 64)))
    rows[::4] = rows[0]
    fill(store, rows)
    queries = unit(np.stack([middle, rows[0], rows[7], -middle, middle + random.normal(size=64)]))
    matches = store.search(queries, 10, EVERYTHING)
    assert matches.certified
    for found, query in zip(pairs(matches), queries, strict=True):
        agree(found, brute(rows, query, 10))
    # Each of them had to be looked at: the second round is what made it right.
    assert matches.rescored_rows > 2000


def test_without_the_second_round_near_ties_would_be_wrong(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "error_bound", lambda _: 0.0)
    random = np.random.default_rng(2)
    middle = unit(random.normal(size=64)).astype(np.float64)
    rows = unit(middle + 3e-7 * random.normal(size=(2000, 64)))
    fill(store, rows)
    found = pairs(store.search(middle.astype(np.float32)[None], 10, EVERYTHING))[0]
    assert [one for one, _ in found] != [one for one, _ in brute(rows, middle, 10)]


def test_scores_of_zero_are_plain_and_tie_by_number(store: PostgresStore) -> None:
    rows = np.eye(8, dtype=np.float32)
    rows[2] = -rows[2]
    fill(store, rows)
    found = pairs(store.search(rows[5:6], 8, EVERYTHING))[0]
    assert found == [(5, 1.0), *((number, 0.0) for number in (0, 1, 2, 3, 4, 6, 7))]
    assert all(str(score) == "0.0" for _, score in found[1:])
    tiny = np.array([[1.0] + [1e-30] * 3 + [1e-45] * 4], np.float32)
    agree(pairs(store.search(tiny, 8, EVERYTHING))[0], brute(rows, tiny[0], 8))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 1e-3, 1e-20, 1e-44]))
def test_no_order_of_a_float32_sum_leaves_the_bound(dimension: int, seed: int, small: float) -> None:
    random = np.random.default_rng(seed)
    scale = np.where(random.random(dimension) < 0.5, 1.0, small)
    row, query = unit(random.normal(size=(2, dimension)) * scale + 1e-3 * (dimension == 1))
    true = float((row.astype(np.float64) * query).sum())
    products = row * query
    for order in (np.arange(dimension), np.argsort(products), np.argsort(-np.abs(products))):
        total = np.float32(0)
        for product in products[order]:
            total = np.float32(total + product)
        assert abs(float(total) - true) <= error_bound(dimension)


def test_conditions_come_before_the_search(store: PostgresStore) -> None:
    random = np.random.default_rng(3)
    rows, query = unit(random.normal(size=(400, 16))), unit(random.normal(size=(1, 16)))
    fill(store, rows)
    where = (Condition(("n",), "$gte", 100), Condition(("n",), "$lt", 120))
    agree(
        pairs(store.search(query, 50, Selection(where=where)))[0], brute(rows, query[0], 50, range(100, 120))
    )
    timed = store.search(query, 5, Selection(since=10.0, until=20.0))
    agree(pairs(timed)[0], brute(rows, query[0], 5, range(10, 20)))
    named = store.search(query, 5, Selection(ids=(3, 4, 9999)))
    agree(pairs(named)[0], brute(rows, query[0], 5, [3, 4]))
    assert pairs(store.search(query, 5, Selection("no such chat"))) == [[]]
    assert pairs(store.search(query, 5, Selection("\0"))) == [[]]


def test_what_jsonb_cannot_tell_is_told_here(store: PostgresStore) -> None:
    """The first rows that the server returns do not fulfil the condition: it must send more."""
    random = np.random.default_rng(4)
    rows, query = unit(random.normal(size=(300, 8))), unit(random.normal(size=(1, 8)))
    ranked = [number for number, _ in brute(rows, query[0], 300)]
    wanted = set(ranked[100:110])
    notes = ['{"n": "\\u0000%s"}' % (number in wanted) for number in range(300)]
    store.add("chat", Batch(rows, [None] * 300, notes, [0.0] * 300, [*range(300)]))
    found = store.search(query, 5, Selection(where=(Condition(("n",), "$eq", "\0True"),)))
    agree(pairs(found)[0], brute(rows, query[0], 5, sorted(wanted)))
    assert found.certified


def test_scores_fade_with_age(store: PostgresStore) -> None:
    random = np.random.default_rng(5)
    rows, queries = unit(random.normal(size=(500, 16))), unit(random.normal(size=(5, 16)))
    fill(store, rows)
    for floor, half_life in ((0.2, 50.0), (0.0, 0.5), (1.0, 1e9)):
        fading = Fading(half_life_seconds=half_life, floor=floor, now=400.0)
        weights = np.maximum(floor, np.exp2(-np.maximum(400.0 - np.arange(500), 0) / half_life))
        matches = store.search(queries, 10, EVERYTHING, fading=fading)
        assert matches.certified
        for found, query in zip(pairs(matches), queries, strict=True):
            agree(found, brute(rows, query, 10, weights=weights))


def test_chats_that_do_not_fit_are_left_out_or_refused(store: PostgresStore) -> None:
    random = np.random.default_rng(6)
    small, large = unit(random.normal(size=(30, 4))), unit(random.normal(size=(30, 6)))
    numbers = [*range(30)]

    def batch(rows: np.ndarray, first: int, encoder: str | None) -> Batch:
        return Batch(rows, [None] * 30, [None] * 30, [0.0] * 30, [first + one for one in numbers], encoder)

    assert pairs(store.search(small[:1], 3, EVERYTHING)) == [[]]
    store.add("small, A", batch(small, 0, "A"))
    store.add("small, B", batch(small, 100, "B"))
    store.add("large", batch(large, 200, None))
    assert {number for number, _ in pairs(store.search(small[:1], 99, EVERYTHING))[0]} == {
        *numbers,
        *(100 + one for one in numbers),
    }
    only_a = store.search(small[:1], 99, EVERYTHING, encoder="A")
    assert sorted(number for number, _ in pairs(only_a)[0]) == numbers
    agree(
        pairs(store.search(large[:1], 3, EVERYTHING, encoder="C"))[0],
        [(200 + number, score) for number, score in brute(large, large[0], 3)],
    )
    with pytest.raises(
        ChatError, match=r"the query has 5 numbers, and no chat holds rows of so many \(but of 4, 6"
    ):
        store.search(unit(np.ones((1, 5))), 3, EVERYTHING)
    with pytest.raises(
        ChatError, match="the query comes from the encoder 'C', and no chat with rows of 4 numb"
    ):
        store.search(small[:1], 3, EVERYTHING, encoder="C")
    with pytest.raises(ChatError, match="the query has 6 numbers, and chat 'small, A' holds rows of 4"):
        store.search(large[:1], 3, Selection("small, A"))
    with pytest.raises(ChatError, match="the query comes from the encoder 'B', and chat 'small, A' holds"):
        store.search(small[:1], 3, Selection("small, A"), encoder="B")
    with pytest.raises(ChatError, match="has 20000 numbers, and no chat"):
        store.search(unit(np.ones((1, 20_000))), 3, EVERYTHING)


def test_the_fast_search_asks_the_index_and_proves_nothing(store: PostgresStore) -> None:
    random = np.random.default_rng(7)
    middles = unit(random.normal(size=(40, 32)))
    rows = unit(middles[random.integers(0, 40, 3000)] + 0.1 * random.normal(size=(3000, 32)))
    fill(store, rows)
    queries = rows[random.integers(0, 3000, 20)]
    assert store.search(queries, 10, EVERYTHING, mode="fast").certified
    store.create_index()
    store.create_index()
    fast = store.search(queries, 10, EVERYTHING, mode="fast")
    assert not fast.certified
    hits = 0
    for found, query in zip(pairs(fast), queries, strict=True):
        expected = brute(rows, query, 10)
        hits += len({number for number, _ in found} & {number for number, _ in expected})
        scores = dict(brute(rows, query, 3000))
        assert all(score == pytest.approx(scores[number], rel=0, abs=1.5e-12) for number, score in found)
    assert hits >= 0.9 * 200
    assert store.search(queries, 10, EVERYTHING).certified
    members = store._members
    with members.read_all(members.servers) as cursors:
        # The words of the search, as the planner takes them.
        scan = search._Scan(
            0, cursors[0], search.Scope("vector_dims(item.embedding) = 32", []), queries[:1], (), None
        )
        plan = cursors[0].execute(f"EXPLAIN {scan.query(fast=True)}", scan.parameters(0, 88, fast=True))
        assert any("titan_item_fast_32" in line for (line,) in plan)


def test_rows_too_long_for_an_index_are_named(store: PostgresStore) -> None:
    store.add("chat", Batch(unit(np.ones((1, 4001))), [None], [None], [0.0]))
    with pytest.raises(ChatError, match="rows of 4001 numbers cannot be indexed: the most is 4000"):
        store.create_index()


@pytest.mark.parametrize(
    ("count", "dimension", "queries"),
    [
        # The smaller version of the one below, for each day.
        pytest.param(6_000, 48, 25, id="6,000 rows"),
        pytest.param(50_000, 384, 100, id="50,000 rows", marks=pytest.mark.slow),
    ],
)
def test_many_rows_on_two_servers_are_found_as_the_local_memory_finds_them(
    store: PostgresStore, count: int, dimension: int, queries: int
) -> None:
    from titan_nb.chat.local import LocalStore

    random = np.random.default_rng(8)
    middles = random.normal(size=(count // 50, dimension))
    rows = unit(
        middles[random.integers(0, len(middles), count)] + 0.5 * random.normal(size=(count, dimension))
    )
    rows[-count // 100 :] = rows[: count // 100]
    fill(store, rows, chats=60)
    local = LocalStore()
    owners = np.arange(count) % 60
    for chat in range(60):
        ids = np.flatnonzero(owners == chat)
        local.add(
            f"chat {chat}",
            Batch(rows[ids], [None] * len(ids), [None] * len(ids), [0.0] * len(ids), ids.tolist()),
        )
    wanted = np.concatenate(
        (
            rows[random.integers(0, count, queries // 2)],
            unit(random.normal(size=(queries - queries // 2, dimension))),
        )
    )
    here, there = local.search(wanted, 10, EVERYTHING), store.search(wanted, 10, EVERYTHING)
    local.close()
    assert here.certified
    assert there.certified
    assert [server_chats(store, place) != [] for place in (0, 1)] == [True, True]
    for query, one, other in zip(wanted, pairs(here), pairs(there), strict=True):
        agree(other, one)
        agree(other, brute(rows, query, 10))
