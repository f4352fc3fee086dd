"""Float64 scores of as few rows as prove that the best k are the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from titan_nb.chat.block import Block, Found
from titan_nb.chat.top import Reach, kth_best

if TYPE_CHECKING:
    import numpy as np

__all__ = ["ROUNDING", "Certificate", "Table", "dot_products", "rounded"]

ROUNDING = 1e-12
"""Part of every bound: half of the last decimal, and the rounding of a float64 sum of products below one."""

_DECIMALS = 1e12
_FIRST_ROWS = 32
_GATHER_ROWS = 4096
_PENDING_ROWS = 4096
_TIED_ROWS = 65536


def dot_products(rows: np.ndarray, places: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Return the float64 dot products (c,) of these ``rows``, float32 (n, d), and ``query``, float64 (d,).

    Products of float32 numbers are exact in float64, and each row is summed on its own, in an order that
    depends on nothing but its length: equal rows have equal products wherever they are kept.
    """
    import numpy as np

    products: np.ndarray = np.add.reduce(rows[places] * query, axis=1)
    return products


def rounded(scores: np.ndarray) -> np.ndarray:
    """Return the scores rounded to 12 decimals, because equal rows must tie also for other makers of sums."""
    import numpy as np

    # As numpy.round does it, at half of its price for few; adding zero makes -0.0 to 0.0.
    result: np.ndarray = np.rint(scores * _DECIMALS) / _DECIMALS + 0.0
    return result


class Table:
    """All rows of some blocks under one numbering: a row's place is its rank in the order of the blocks.

    Args:
        blocks: The blocks, all of one dimension.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        import numpy as np

        self.blocks = blocks
        self.ends = np.cumsum([len(block.rows) for block in blocks])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @property
    def dimension(self) -> int:
        """Numbers per row."""
        return int(self.blocks[0].rows.shape[1])

    def start(self, number: int) -> int:
        """Return the place of the first row of a block."""
        return int(self.ends[number]) - len(self.blocks[number].rows)

    def split(self, places: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """Return (block, positions in ``places``, rows in the block) for each block that has some of them."""
        import numpy as np

        if not len(places):
            return []
        if len(self.blocks) == 1:
            return [(0, np.arange(len(places)), places)]
        owners = np.searchsorted(self.ends, places, side="right")
        order = np.argsort(owners, kind="stable")
        numbers, firsts = np.unique(owners[order], return_index=True)
        split = np.split(order, firsts[1:])
        return [
            (number, positions, places[positions] - self.start(number))
            for number, positions in zip(numbers.tolist(), split, strict=True)
        ]

    def scores(self, places: np.ndarray, query: np.ndarray) -> np.ndarray:
        """Return the scores of the rows at these places, rounded, float64 (c,).

        Args:
            places: int64 (c,).
            query: float64 (d,).
        """
        import numpy as np

        scores = np.empty(len(places))
        for number, positions, rows in self.split(places):
            block = self.blocks[number]
            for first in range(0, len(rows), _GATHER_ROWS):
                part = slice(first, first + _GATHER_ROWS)
                exact = dot_products(block.rows, rows[part], query)
                if block.weights is not None:
                    exact *= block.weights[rows[part]]
                scores[positions[part]] = exact
        return rounded(scores)

    def ids(self, places: np.ndarray) -> np.ndarray:
        """Return the numbers of the rows at these places, int64 (c,)."""
        import numpy as np

        ids = np.empty(len(places), dtype=np.int64)
        for number, positions, rows in self.split(places):
            ids[positions] = self.blocks[number].ids(rows)
        return ids


class Certificate:
    """The best k rows for one query, proved while approximate scores come in.

    Whatever made the approximate scores, each comes with a lower and an upper bound of the true one. The
    candidates are scored in float64 by descending upper bound, until the k-th best true score is greater
    than every upper bound that is left: no row that was left out can then be among the best k, nor tie
    with them.

    Args:
        table: Where the rows are.
        query: float32 (d,).
        k: How many rows are wanted, at least 1.
    """

    def __init__(self, table: Table, query: np.ndarray, k: int) -> None:
        import numpy as np

        self._table = table
        self._query = query.astype(np.float64)
        self._k = k
        self._pending: list[Reach] = []
        self._pending_rows = 0
        self._lower = np.empty(0)
        self._places = np.empty(0, dtype=np.int64)
        self._scores = np.empty(0)
        self.rescored_rows = 0
        self.floor = -float("inf")

    def offer(self, reach: Reach) -> None:
        """Take candidates; their places are those of the table, and no place is offered twice."""
        import numpy as np

        count = len(reach.places)
        if not count:
            return
        self._pending.append(reach)
        self._pending_rows += count
        if self._pending_rows > _PENDING_ROWS:
            self.settle()
            return
        lower = np.concatenate((self._lower, reach.lower)) if len(self._lower) else reach.lower
        if len(lower) >= self._k:
            lower = np.partition(lower, len(lower) - self._k)[len(lower) - self._k :]
            self.floor = max(self.floor, float(lower.min()))
        self._lower = lower

    def settle(self) -> None:
        """Score pending candidates until none that is left can be among the best k."""
        import numpy as np

        pending, self._pending, self._pending_rows = self._pending, [], 0
        if not pending:
            return
        if len(pending) == 1:
            places, _, upper = pending[0]
        else:
            places = np.concatenate([reach.places for reach in pending])
            upper = np.concatenate([reach.upper for reach in pending])
        order = np.argsort(-upper)
        first, step = 0, max(_FIRST_ROWS, 2 * self._k)
        while first < len(order) and upper[order[first]] >= self.floor:
            self._score(places[order[first : first + step]])
            first += step
            step = min(2 * step, _TIED_ROWS)
        self._lower = self._scores

    def _score(self, places: np.ndarray) -> None:
        """Score these rows in float64, and keep those that are, or tie with, the best k so far."""
        import numpy as np

        self.rescored_rows += len(places)
        scores = self._table.scores(places, self._query)
        if len(self._places):
            places = np.concatenate((self._places, places))
            scores = np.concatenate((self._scores, scores))
        kth = kth_best(scores, self._k)
        if kth > self.floor:
            self.floor = kth
        best = scores >= kth
        self._places, self._scores = places[best], scores[best]
        if len(self._places) > self._k + _TIED_ROWS:
            best = self._order()[: self._k]
            self._places, self._scores = self._places[best], self._scores[best]

    def _order(self) -> np.ndarray:
        """Return the order of what is kept: best first, equal scores by number."""
        import numpy as np

        return np.lexsort((self._table.ids(self._places), -self._scores))

    def found(self) -> list[Found]:
        """Return the best k, best first, equal scores by number."""
        self.settle()
        table, places, scores = self._table, self._places, self._scores
        found: list[Found] = []
        for number, positions, rows in table.split(places):
            ids = table.blocks[number].ids(rows)
            found += map(
                Found._make,
                zip(
                    [number] * len(rows), rows.tolist(), ids.tolist(), scores[positions].tolist(), strict=True
                ),
            )
        found.sort(key=lambda one: (-one.score, one.id))
        return found[: self._k]
