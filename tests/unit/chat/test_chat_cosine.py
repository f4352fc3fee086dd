"""Search against an independent brute force, and properties that hold for all data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.datasets import load_digits
from sklearn.neighbors import NearestNeighbors

from titan_nb.chat import ChatMemory

finite = st.floats(-1e6, 1e6, width=32).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
tables = hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.integers(1, 12)), elements=finite).filter(
    lambda table: bool((np.abs(table).max(axis=1) > 0).all())
)


@settings(max_examples=60, deadline=None)
@given(tables, st.data())
def test_a_row_is_its_own_best_hit(table: np.ndarray, data: st.DataObject) -> None:
    memory = ChatMemory()
    chat_ids = data.draw(st.lists(st.sampled_from("abc"), min_size=len(table), max_size=len(table)))
    for chat_id, row in zip(chat_ids, table, strict=True):
        memory.add(chat_id, row[None, :])
    number = data.draw(st.integers(0, len(table) - 1))
    hits = memory.search(table[number], k=len(table))
    assert [hit.id for hit in sorted(hits, key=lambda hit: (-hit.score, hit.id))] == [hit.id for hit in hits]
    assert sorted(hit.id for hit in hits) == list(range(len(table)))
    assert all(-1 - 1e-6 <= hit.score <= 1 + 1e-6 for hit in hits)
    assert hits[0].score == pytest.approx(1.0, abs=1e-6)
    own = next(hit for hit in hits if hit.id == number)
    assert own.score == pytest.approx(1.0, abs=1e-6)
    assert own.chat_id == chat_ids[number]


@settings(max_examples=60, deadline=None)
@given(tables, st.integers(1, 12), st.floats(1e-3, 1e3))
def test_scores_are_cosines_whatever_the_length(table: np.ndarray, k: int, factor: float) -> None:
    memory = ChatMemory()
    memory.add("a", table * np.float32(factor))
    query = table.sum(axis=0, dtype=np.float64) + 1e-3
    exact = table.astype(np.float64) @ query
    exact /= np.linalg.norm(table.astype(np.float64), axis=1) * np.linalg.norm(query)
    hits = memory.search(query, k=k)
    assert len(hits) == min(k, len(table))
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(exact)[::-1][:k], atol=1e-6)
    np.testing.assert_allclose([hit.score for hit in hits], exact[[hit.id for hit in hits]], atol=1e-6)


def test_digits_equal_a_brute_force_after_random_adds_and_forgets() -> None:
    digits = load_digits().data
    random = np.random.default_rng(7)
    memory, stored = ChatMemory(), dict[int, tuple[str, np.ndarray]]()
    waiting = random.permutation(len(digits)).tolist()
    while waiting:
        batch, waiting = waiting[:29], waiting[29:]
        chat_id = f"chat {random.integers(8)}"
        ids = memory.add(chat_id, digits[batch])
        stored.update(zip(ids, [(chat_id, digits[row]) for row in batch], strict=True))
        if random.random() < 0.15:
            chat_id = f"chat {random.integers(8)}"
            gone = [number for number, (name, _) in stored.items() if name == chat_id]
            assert memory.forget(chat_id) == len(gone)
            # What was forgotten comes back later under new ids.
            waiting += [int(np.flatnonzero((digits == stored[number][1]).all(axis=1))[0]) for number in gone]
            for number in gone:
                del stored[number]
    assert len(memory) == len(stored) == len(digits)

    ids = np.array(sorted(stored))
    table = np.array([stored[number][1] for number in ids])
    queries = digits[::7] + random.normal(0, 0.5, digits[::7].shape)
    reference = NearestNeighbors(n_neighbors=11, metric="cosine", algorithm="brute").fit(table)
    distances, places = reference.kneighbors(queries)
    for query, distance, place in zip(queries, distances, places, strict=True):
        hits = memory.search(query, k=10)
        np.testing.assert_allclose([hit.score for hit in hits], 1 - distance[:10], atol=1e-6)
        # float32 rows cannot tell apart neighbours that are closer than their rounding.
        if np.diff(distance).min() > 1e-6:
            assert [hit.id for hit in hits] == ids[place[:10]].tolist()
        else:
            assert {hit.id for hit in hits} <= set(ids[place].tolist())
    told_apart = (np.diff(distances, axis=1).min(axis=1) > 1e-6).mean()
    assert told_apart > 0.9


def test_the_first_pass_may_be_rough(monkeypatch: pytest.MonkeyPatch) -> None:
    """With factors rounded to bfloat16, as torch may do on request, the answer stays the same."""
    torch.manual_seed(3)
    table = torch.randn(2000, 48)
    memory = ChatMemory()
    memory.add("a", table)
    queries = table[:50] + 0.3 * torch.randn(50, 48)
    exact = [memory.search(query, k=10) for query in queries]
    product = torch.Tensor.__matmul__

    def rough(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return product(left.bfloat16().float(), right.bfloat16().float())

    monkeypatch.setattr(torch.Tensor, "__matmul__", rough)
    assert not torch.equal(table @ queries[0], product(table, queries[0]))
    assert [memory.search(query, k=10) for query in queries] == exact
