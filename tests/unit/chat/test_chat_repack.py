"""Giving back the room of what was forgotten or replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.unit.chat.local_stores import batch, brute_force, everything, opened, pairs, units
from titan_nb.chat.store import Change, Selection


def _file_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_a_folder_shrinks_to_what_is_alive(tmp_path: Path) -> None:
    rows = units(4000, 64)
    store = opened(tmp_path / "kept")
    store.add("a", batch(rows, texts=["x" * 300] * 4000))
    store.add("b", batch(rows[:2000], texts=["x" * 300] * 2000))
    store.forget(Selection(chat_id="a", since=500.0))
    store.forget(Selection(chat_id="b"))
    kept = everything(store)
    old = set((tmp_path / "kept" / "vectors").iterdir())
    given = store.compact()
    assert given.dropped_rows == 3500
    assert given.after_bytes < given.before_bytes / 4
    fresh = opened(tmp_path / "fresh")
    fresh.add("a", batch(rows[:500], texts=["x" * 300] * 500))
    fresh.compact()
    fresh.close()
    assert not old & set((tmp_path / "kept" / "vectors").iterdir())
    assert everything(store) == kept
    store.close()
    assert _file_bytes(tmp_path / "kept") <= 1.1 * _file_bytes(tmp_path / "fresh")
    store = opened(tmp_path / "kept")
    assert everything(store) == kept
    assert store.add("a", batch(rows[:1])) == [6000]
    store.close()


def test_memory_shrinks_to_what_is_alive() -> None:
    rows = units(5000, 32)
    store = opened()
    for first in range(0, 5000, 100):
        store.add("a", batch(rows[first : first + 100]))
    store.forget(Selection(until=50.0))
    kept = everything(store)
    given = store.compact()
    assert given.dropped_rows == 2500
    assert store.tiers()["ram"] == 2500 * 32 * 4
    assert everything(store) == kept
    assert store.compact().dropped_rows == 0
    store.close()


def test_room_for_rows_to_come_is_given_back_too() -> None:
    store = opened()
    for number in range(70):
        store.add("a", batch(units(1, seed=number)))
    before = store.tiers()["ram"]
    store.compact()
    assert store.tiers()["ram"] == 70 * 8 * 4 < before
    store.add("a", batch(units(1)))
    assert store.chats()["a"].rows == 71


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "folder"])
def test_rows_fill_new_chunks_and_full_ones_stay(tmp_path: Path, kept: bool) -> None:
    rows = units(200_000, 2)
    store = opened(tmp_path / "kept" if kept else None)
    store.add("a", batch(rows))
    assert [chunk.number for chunk in store._access.contents.chats["a"].chunks] == [1, 2, 3, 4]
    store.forget(Selection(since=10_000.0, until=70_000.0))
    store.compact()
    chunks = store._access.contents.chats["a"].chunks
    assert [(chunk.number, chunk.count) for chunk in chunks] == [(3, 65_536), (5, 65_536), (6, 8_928)]
    ids = np.concatenate([np.arange(10_000), np.arange(70_000, 200_000)])
    query = units(1, 2, seed=3)
    scores = (rows[ids].astype(np.float64) * query.astype(np.float64)).sum(axis=1).round(12)
    best = sorted(range(len(ids)), key=lambda one: (-scores[one], ids[one]))[:5]
    assert [number for number, _ in pairs(store.search(query, 5, Selection()))[0]] == ids[best].tolist()
    store.add("a", batch(rows[:1]))
    assert chunks[-1].count == 8_929
    store.close()


@pytest.mark.parametrize("kept", [False, True], ids=["memory", "folder"])
def test_replaced_rows_go_and_ids_stay(tmp_path: Path, kept: bool) -> None:
    rows = units(10)
    store = opened(tmp_path / "kept" if kept else None)
    store.add("a", batch(rows))
    new = units(10, seed=1)
    for number in range(10):
        store.update(number, Change(frozenset({"row"}), row=new[number]))
    assert store.compact().dropped_rows == 10
    assert pairs(store.search(new[:2], 10, Selection())) == brute_force(new, range(10), new[:2], 10)
    store.close()


def test_a_chat_forgotten_meanwhile_is_left_out() -> None:
    store = opened()
    store.add("a", batch(units(2)))
    assert store._access.write(lambda: store._repack("b")) == 0
    store.close()
