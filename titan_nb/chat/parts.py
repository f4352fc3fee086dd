"""The ways a search reads rows: each scores some rows approximately and names those that may be best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from titan_nb.chat.block import Block
from titan_nb.chat.certify import ROUNDING
from titan_nb.chat.codes import LENGTH, Codes
from titan_nb.chat.scans import Queries
from titan_nb.chat.top import Reach, reach, reach_on_device

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.faiss_scan import FaissRows

__all__ = ["CodedPart", "DevicePart", "Part", "RowsPart", "SparsePart", "float32_error", "some_rows"]


class Part(Protocol):
    """Some rows of a table, and how they are read."""

    def reach(self, queries: Queries, k: int, floors: Sequence[float]) -> list[Reach]:
        """Return, for each query, the places in the table whose score may be among the best k.

        Args:
            queries: The queries, m of them.
            k: How many are wanted, at least 1.
            floors: For each query: k rows, here or elsewhere, are known to score at least this.
        """
        ...


class RowsPart:
    """Blocks that follow each other, read in float32.

    Args:
        blocks: The blocks, most often small.
        start: The place of their first row.
    """

    def __init__(self, blocks: Sequence[Block], start: int) -> None:
        self._blocks = blocks
        self._start = start

    def reach(self, queries: Queries, k: int, floors: Sequence[float]) -> list[Reach]:
        """Return the candidates; see `Part`."""
        import numpy as np

        blocks = self._blocks
        turned = queries.rows.T
        if len(blocks) == 1:
            values = blocks[0].rows @ turned
        else:
            values = np.empty((sum([len(block.rows) for block in blocks]), turned.shape[1]), dtype=np.float32)
            first = 0
            for block in blocks:
                last = first + len(block.rows)
                np.matmul(block.rows, turned, out=values[first:last])
                first = last
        slack = queries.lengths * float32_error(len(turned)) + ROUNDING
        first = 0
        for block in blocks:
            last = first + len(block.rows)
            _weigh(values[first:last], block)
            first = last
        return _reaches(values, slack, k, floors, self._start)


class SparsePart:
    """The few rows of a block that are alive, gathered and read in float32.

    Args:
        block: The block.
        alive: Which rows count, bool (n,).
        start: The place of its first row.
    """

    def __init__(self, block: Block, alive: np.ndarray, start: int) -> None:
        self._rows = alive.nonzero()[0]
        self._block = replace(some_rows(block, self._rows), alive=None)
        self._start = start

    def reach(self, queries: Queries, k: int, floors: Sequence[float]) -> list[Reach]:
        """Return the candidates; see `Part`."""
        reaches = RowsPart([self._block], 0).reach(queries, k, floors)
        return [one._replace(places=self._rows[one.places] + self._start) for one in reaches]


class CodedPart:
    """A block read by its int8 codes.

    Args:
        block: The block.
        start: The place of its first row.
        codes: The codes of all its rows.
        sketches: The sketches of all its rows, where they are wanted and there.
        faiss_rows: The same rows as faiss keeps them, where that is wanted and there.
    """

    def __init__(
        self,
        block: Block,
        start: int,
        codes: Codes,
        sketches: np.ndarray | None = None,
        faiss_rows: FaissRows | None = None,
    ) -> None:
        self.block = block
        self.start = start
        self.codes = codes
        self.sketches = sketches
        self.faiss_rows = faiss_rows

    def reach(self, queries: Queries, k: int, floors: Sequence[float]) -> list[Reach]:
        """Return the candidates; see `Part`."""
        return self._reach(self.codes, queries, k, floors, weigh=True)

    def reach_among(self, rows: np.ndarray, queries: Queries, k: int, floor: float) -> Reach:
        """Return the candidates among these rows of the block for one query; all weights are 1."""
        [one] = self._reach(self.codes.take(rows), queries, k, [floor], weigh=False)
        return one._replace(places=rows[one.places - self.start] + self.start)

    def _reach(
        self, codes: Codes, queries: Queries, k: int, floors: Sequence[float], *, weigh: bool
    ) -> list[Reach]:
        values, constant, per_error = queries.score(codes)
        worst = float(codes.errors.max(initial=0.0))
        slack = constant + per_error * worst + ROUNDING
        if weigh:
            _weigh(values, self.block)
        return _reaches(values, slack, k, floors, self.start, _Errors(codes.errors, worst, per_error))


class DevicePart:
    """The rows of a block that have a copy on a GPU.

    Args:
        block: The block; it has device rows.
        start: The place of its first row.
        count: How many of its first rows are read here.
    """

    def __init__(self, block: Block, start: int, count: int) -> None:
        self._block = block
        self._start = start
        self._count = count

    def reach(self, queries: Queries, k: int, floors: Sequence[float]) -> list[Reach]:
        """Return the candidates; see `Part`.

        Where the device fails, such as for want of memory, the rows are read on the host.
        """
        block, count = self._block, self._count
        device_rows = block.index.device_rows
        try:
            if device_rows is None:
                raise RuntimeError("the copy was dropped meanwhile")
            import torch

            values, bound = device_rows.scores(queries.rows)
            bound = bound.double() + ROUNDING
            if bound.shape[-1] > 1:
                bound = bound[..., :count]
            values = values[:, :count]
            if block.weights is not None:
                weights = torch.from_numpy(block.weights[:count]).to(values.device)
                values = values.double() * weights
            if block.alive is not None:
                alive = torch.from_numpy(block.alive[:count]).to(values.device)
                values = values.masked_fill(~alive, -float("inf"))
            reaches = reach_on_device(values, bound, k, list(floors))
        # Whatever it is, want of memory or a mode of the calling cell: the host has all rows too.
        except Exception:
            host = some_rows(block, slice(count))
            return RowsPart([host], self._start).reach(queries, k, floors)
        return [one._replace(places=one.places + self._start) for one in reaches]


def some_rows(block: Block, rows: slice | np.ndarray) -> Block:
    """Return a block of these rows, for their scores only: it still has the ids of the whole block."""
    alive, weights = block.alive, block.weights
    return replace(
        block,
        rows=block.rows[rows],
        alive=None if alive is None else alive[rows],
        weights=None if weights is None else weights[rows],
    )


def float32_error(dimension: int) -> float:
    """Return the largest error of a float32 product of a unit row and a query, for a query of length 1.

    (d + 8) 2^-23 |x| with |x| <= 1.001, for a sum in any order; see `titan_nb.chat.scans.Queries`.
    """
    return (dimension + 8) * 2.0**-23 * LENGTH


def _weigh(values: np.ndarray, block: Block) -> None:
    """Multiply values (n, m) by the weights of their rows, and drop rows that do not count.

    A weight is at most one, so that no error is more after; that weight and product are rounded to float32
    is in the bound, which allows for eight more roundings than a dot product has.
    """
    import numpy as np

    if block.weights is not None:
        values *= block.weights.astype(np.float32)[:, None]
    if block.alive is not None:
        values[~block.alive] = -np.inf


class _Errors(NamedTuple):
    """How errors of rows, float32 (n,), the largest of them, and the errors of scores belong together."""

    rows: np.ndarray
    worst: float
    per_error: np.ndarray


def _reaches(
    values: np.ndarray,
    slack: np.ndarray,
    k: int,
    floors: Sequence[float],
    start: int,
    errors: _Errors | None = None,
) -> list[Reach]:
    """Return the candidates for each query.

    Args:
        values: Approximate scores, float32 (n, m).
        slack: For each query, the largest error of any of them.
        k: How many are wanted.
        floors: For each query: k rows are known to score at least this.
        start: What is added to the places.
        errors: How far the error of a row is from the largest, where that is known.
    """
    import numpy as np

    reaches = []
    slacks = slack.tolist()
    for query, places in enumerate(reach(values, k, slacks, floors)):
        score = values[places, query].astype(np.float64)
        error: np.ndarray | float = slacks[query]
        if errors is not None:
            error = error - errors.per_error[query] * (errors.worst - errors.rows[places].astype(np.float64))
        reaches.append(Reach(places + start, score - error, score + error))
    return reaches
