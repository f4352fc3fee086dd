"""Rows in one bit a number as faiss keeps and scans them, where the process has imported faiss.

An RaBitQ code is compared with the query's own numbers, not with their signs (Gao and Long, RaBitQ, SIGMOD
2024): of a row with the score s it estimates s with a standard deviation of about
sqrt((pi / 2 - 1) / d (1 - s^2)), 0.62 of what two sketches (`titan_nb.chat.bits`) leave, from 56 bytes a row
at d = 384.

Each chunk gives its best 200 by estimate. The first k of each are scored in float64, which tells what the
k-th best score is at least; the others are scored by descending estimate, until what is left is 2 standard
deviations below the k-th best. A chunk whose last estimate is not that far below may have kept back rows, and
is read by its int8 codes: all chunks, with vectors that have nothing to do with each other.

Nobody has proved that the errors are those of a random rotation: the recall is measured, not derived. Of the
best 10 among 1,000,000 rows of 384 numbers, 0.999 were found for 256 embeddings of texts, and all for 20 of
independent rows, which takes longer than an exact search. The best 400 by estimate alone, as faiss is mostly
used, held 0.95 and 0.60 of them, for 40 queries each.
"""

from __future__ import annotations

import contextlib
import math
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from titan_nb.chat import bits
from titan_nb.chat.top import Reach

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.certify import Certificate
    from titan_nb.chat.parts import CodedPart
    from titan_nb.chat.scans import Queries

__all__ = ["FEWEST_ROWS", "FaissRows", "available", "offer"]

FEWEST_ROWS = 16_384
"""A block of fewer rows is not worth a call of faiss."""

_DEVIATIONS = 2.0
_FETCHED_ROWS = 200
# Where more than one row of so many would be fetched, the int8 codes are faster.
_MOST_OF = 16
_TRAINING_ROWS = 4096
_ADDED_ROWS = 4096


def available(dimension: int) -> bool:
    """Return whether the process has imported a faiss that can do this; titan never imports it."""
    return hasattr(sys.modules.get("faiss"), "IndexRaBitQFastScan") and dimension <= bits.LARGEST_DIMENSION


class FaissRows:
    """The first rows of a chunk in a faiss index; all methods may be called from any thread.

    Args:
        dimension: Numbers per row.

    Raises:
        Exception: Here and in all methods, whatever faiss raises.
    """

    def __init__(self, dimension: int) -> None:
        self._faiss: Any = sys.modules["faiss"]
        self._rotation = bits.rotation(dimension)
        self._index = self._faiss.IndexRaBitQFastScan(
            self._rotation.shape[1], self._faiss.METRIC_INNER_PRODUCT
        )
        # faiss lets go of the interpreter, and its arrays move when rows are added.
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Number of rows in the index."""
        return int(self._index.ntotal)

    @property
    def nbytes(self) -> int:
        """What the index takes."""
        return int(self._index.codes.size())

    def extend(self, rows: np.ndarray) -> None:
        """Add the rows that are missing of ``rows``, float32 (n, d), which begin with those there."""
        index, rotation = self._index, self._rotation
        with self._lock, _one_thread(self._faiss):
            if not index.is_trained or not index.ntotal:
                # What is trained is their mean.
                index.train(rows[:: -(-len(rows) // _TRAINING_ROWS)] @ rotation)
            for first in range(self.count, len(rows), _ADDED_ROWS):
                index.add(rows[first : first + _ADDED_ROWS] @ rotation)

    def nearest(self, turned: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return places, int64, and estimated scores, float64, of the rows with the best estimates.

        Args:
            turned: The query, rotated as the rows are by `titan_nb.chat.bits.rotation`, float32 (1, 64 w).
            count: How many rows; fewer come back where there are fewer.
        """
        import numpy as np

        with self._lock, _one_thread(self._faiss):
            estimates, places = self._index.search(turned, count)
        there = places[0] >= 0
        return places[0][there], estimates[0][there].astype(np.float64)


@contextlib.contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    """Let faiss use this thread only; the setting is the calling thread's own."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def offer(parts: Sequence[tuple[CodedPart, FaissRows]], query: Queries, proof: Certificate, k: int) -> None:
    """Offer what is likely to be among the best k of these parts; where faiss fails, what surely is.

    Args:
        parts: Blocks without mask and weights.
        query: One query.
        proof: What takes the candidates; what it had before counts.
        k: How many rows are wanted.
    """
    import numpy as np

    turned = query.rows @ bits.rotation(query.rows.shape[1])
    length = float(query.lengths[0])
    deviation = math.sqrt((math.pi / 2 - 1) / query.rows.shape[1])
    count = max(_FETCHED_ROWS, 4 * k)
    asked: list[tuple[CodedPart, float, Reach]] = []
    for part, faiss_rows in parts:
        rows = len(part.block.rows)
        left, reach = math.inf, Reach(np.empty(0, dtype=np.int64), np.empty(0), np.empty(0))
        if count * _MOST_OF <= rows:
            # The cell may have changed what faiss has of itself.
            with contextlib.suppress(Exception):
                places, estimates = faiss_rows.nearest(turned, count)
                sine = np.sqrt(1 - np.clip(estimates / length, 0, 1) ** 2)
                upper = estimates + _DEVIATIONS * deviation * length * sine
                left = float(upper[-1])
                # Others may have added rows since this block was made.
                upper, places = upper[places < rows], places[places < rows] + part.start
                reach = Reach(places, np.full(len(places), -np.inf), upper)
        asked.append((part, left, reach))
        proof.offer(Reach(*(array[:k] for array in reach)))
    proof.settle()
    for part, left, (places, lower, upper) in asked:
        if left < proof.floor:
            proof.offer(Reach(places[k:], lower[k:], upper[k:]))
            continue
        [reach] = part.reach(query, k, [proof.floor])
        new = ~np.isin(reach.places, places[:k])
        proof.offer(Reach(*(array[new] for array in reach)))
