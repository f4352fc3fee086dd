"""Local stores and what goes into them, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from titan_nb.chat.folder import Folder
from titan_nb.chat.local import LocalStore
from titan_nb.chat.store import Batch, Matches, Selection, Store


def opened(path: Path | None = None, mode: Literal["w", "r"] = "w") -> LocalStore:
    """Return a store in memory, or in a folder."""
    return LocalStore() if path is None else LocalStore(Folder.open(path, mode))


def units(count: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    """Return unit rows, float32."""
    rows = np.random.default_rng(seed).standard_normal((count, dimension))
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def batch(rows: np.ndarray, **fields: Any) -> Batch:
    """Return a batch with texts ``text 0``, ... and times 0, 1, ..., unless others are given."""
    count = len(rows)
    given = {
        "texts": [f"text {number}" for number in range(count)],
        "metadata": [None] * count,
        "times": [float(number) for number in range(count)],
        **fields,
    }
    return Batch(rows, **given)


def pairs(matches: Matches) -> list[list[tuple[int, float]]]:
    """Return id and score of what was found for each query."""
    return [[(match.item.id, match.score) for match in found] for found in matches.found]


def brute_force(
    rows: np.ndarray, ids: Sequence[int], queries: np.ndarray, k: int
) -> list[list[tuple[int, float]]]:
    """Return the k best by float64, equal scores by id."""
    table = []
    for query in queries:
        # Row by row, so that equal rows have equal scores whatever stands beside them.
        scores = [round(float((row.astype(np.float64) * query.astype(np.float64)).sum()), 12) for row in rows]
        best = sorted(zip(ids, scores, strict=True), key=lambda one: (-one[1], one[0]))
        table.append(best[:k])
    return table


def everything(store: Store) -> dict[int, tuple[Any, ...]]:
    """Return all that a store holds, by id."""
    items = store.items(Selection(), embeddings=True)
    return {
        one.id: (one.chat_id, one.text, one.metadata, one.time, one.embedding.tobytes())  # type: ignore[union-attr]
        for one in items
    }
