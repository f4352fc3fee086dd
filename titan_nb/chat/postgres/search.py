"""The k best items on several servers, proved to be those of brute force in float64.

pgvector adds up products in float32. For rows of d numbers and any order of the sum, fused or not, the result
is off by at most gamma * |x| * |q|, gamma = d u / (1 - d u), u = 2^-24 (Higham, "Accuracy and Stability of
Numerical Algorithms", 2nd ed., section 3.1), and by 2^-126 more for each product that is lost to underflow.
With unit rows that is the distance `error_bound`, and each server's own order is right up to it:

1. Each server returns the first ``k + _SPARE`` rows by its own scores. They are scored again here in
   float64; let t be the k-th best of all servers. What a server kept back has at most the score f of the last
   row that it sent, and a true score of at most f + bound. Where f + bound < t, none of it is among the best.
2. Otherwise that server sends all rows whose own score is at least t - bound; what it still keeps back has a
   true score below t. This happens for near ties and for many equal rows; they come in pages.

Scores that fade are the same, times weights of at most 1 that both sides work out in double precision.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from titan_nb.chat.certify import rounded
from titan_nb.chat.postgres.connection import Vector
from titan_nb.chat.postgres.fan import on_each
from titan_nb.chat.postgres.vectors import from_binary, to_binary
from titan_nb.chat.where import Condition, fulfils

if TYPE_CHECKING:
    import numpy as np
    from psycopg import Cursor

    from titan_nb.chat.store import Fading

__all__ = ["Candidate", "Scope", "error_bound", "find_best"]

_SPARE = 16
_PAGE = 1000
# Rows and queries have length 1 up to 1e-6.
_LENGTHS = 1.00001
# For what both sides round in double precision: weights, products with them, and scores to 12 decimals.
_ROUNDING = 2e-12
_FAST_FACTOR = 8
# How many rows the index looks at before it settles: pgvector's own 40 finds too few of the best.
_FAST_WIDTH = 400
_WIDEST = 1000
_FROM = "FROM titan_item AS item WHERE"


class Candidate(NamedTuple):
    """A row and its score in float64, rounded to 12 decimals; ordered so that the best is the least."""

    distance: float
    id: int
    place: int


@dataclass(frozen=True, slots=True)
class Scope:
    """What a search looks at on one server.

    Attributes:
        clause: Condition on ``titan_item``.
        parameters: What goes into it.
    """

    clause: str
    parameters: Sequence[Any]


def error_bound(dimension: int) -> float:
    """Return by how much a score of pgvector may be off for unit rows; see the head of this module."""
    units = dimension * 2.0**-24
    gamma = units / (1 - units)
    return gamma * _LENGTHS + dimension * (2.0**-126 + 2.0**-52) + _ROUNDING


def find_best(
    cursors: Sequence[Cursor[Any]],
    scopes: Sequence[Scope],
    queries: np.ndarray,
    k: int,
    where: tuple[Condition, ...],
    fading: Fading | None,
    *,
    fast: bool = False,
) -> tuple[list[list[Candidate]], int]:
    """Return the k best rows for each query, and how many rows were scored in float64.

    Args:
        cursors: One transaction per server, all of it at one moment; binary.
        scopes: What to look at, one per server.
        queries: Unit rows, float32, shape (m, d).
        k: How many.
        where: Conditions that rows must fulfil; the scopes may let some through that do not.
        fading: How scores fade.
        fast: Take what the servers' indexes return, unproved.
    """
    scans = [
        _Scan(place, cursor, scope, queries, where, fading)
        for place, (cursor, scope) in enumerate(zip(cursors, scopes, strict=True))
    ]
    limit = k + _SPARE if not fast else max(k + _SPARE, _FAST_FACTOR * k)
    firsts = on_each(cursors, lambda place, _: scans[place].first(limit, fast))
    best = [
        heapq.nsmallest(k, (one for first in firsts for one in first[query].rows))
        for query in range(len(queries))
    ]
    if not fast:
        bound = error_bound(queries.shape[1])
        # What is still to be asked of whom: the query's number and the least own score that matters.
        open_: list[list[tuple[int, float]]] = [[] for _ in scans]
        for query, found in enumerate(best):
            worst = -found[-1].distance if len(found) == k else float("-inf")
            for place, first in enumerate(firsts):
                kept_back = first[query].kept_back
                if kept_back is not None and kept_back + bound >= worst:
                    open_[place].append((query, worst - bound))
        if any(open_):
            more = on_each(cursors, lambda place, _: scans[place].rest(open_[place], k))
            for query in range(len(queries)):
                # Rows of the first round come again.
                rows = {one for part in more for one in part.get(query, ())} | {*best[query]}
                best[query] = heapq.nsmallest(k, rows)
    return best, sum(scan.rescored_rows for scan in scans)


class _First(NamedTuple):
    rows: list[Candidate]
    kept_back: float | None


class _Scan:
    """The search of one server, in one transaction."""

    def __init__(
        self,
        place: int,
        cursor: Cursor[Any],
        scope: Scope,
        queries: np.ndarray,
        where: tuple[Condition, ...],
        fading: Fading | None,
    ) -> None:
        import numpy as np

        self.rescored_rows = 0
        self._place, self._cursor, self._scope = place, cursor, scope
        self._vectors = [Vector(binary) for binary in to_binary(queries)]
        self._queries = queries.astype(np.float64)
        self._where, self._fading = where, fading
        weight, values = _weight(fading)
        metadata = "metadata" if where else "NULL"
        score = f"-(embedding <#> %s::vector) {weight}"
        self._rows = f"SELECT id, time, {metadata}, embedding, {score} AS score {_FROM} {scope.clause}"
        self._weight_values = values

    def first(self, limit: int, fast: bool) -> list[_First]:
        """Return the first rows by the server's own scores, for each query."""
        if fast:
            self._cursor.execute(
                "SELECT set_config('hnsw.ef_search', %s, true), "
                "set_config('hnsw.iterative_scan', 'relaxed_order', true)",
                [str(min(max(limit, _FAST_WIDTH), _WIDEST))],
            )
        return [self._first(number, limit, fast) for number in range(len(self._queries))]

    def rest(self, open_: Sequence[tuple[int, float]], k: int) -> dict[int, list[Candidate]]:
        """Return the k best of all rows whose own score reaches a limit, for some queries."""
        return {number: self._rest(number, least, k) for number, least in open_}

    def query(self, *, fast: bool) -> str:
        """Return the statement for the first rows."""
        size = self._queries.shape[1]
        # The words of the index.
        order = f"embedding::halfvec({size}) <#> %s::vector::halfvec({size})" if fast else "score DESC"
        return f"{self._rows} ORDER BY {order} LIMIT %s"

    def parameters(self, number: int, limit: int, *, fast: bool) -> list[Any]:
        """Return what goes into it for one query."""
        return [*self._parameters(number), *([self._vectors[number]] if fast else []), limit]

    def _first(self, number: int, limit: int, fast: bool) -> _First:
        rows = self._cursor.execute(
            self.query(fast=fast), self.parameters(number, limit, fast=fast)
        ).fetchall()
        kept_back = float(rows[-1][4]) if len(rows) == limit else None
        return _First(self._scored(number, rows), kept_back)

    def _rest(self, number: int, least: float, k: int) -> list[Candidate]:
        best: list[Candidate] = []
        # OFFSET 0 keeps the condition on the score behind those of the scope: rows of another dimension have
        # no score.
        query = f"SELECT * FROM ({self._rows} OFFSET 0) AS scored WHERE score >= %s"  # noqa: S608
        for page in self._pages(query, [*self._parameters(number), least]):
            best = heapq.nsmallest(k, [*best, *self._scored(number, page)])
        return best

    def _pages(self, query: str, parameters: Sequence[Any]) -> Iterator[list[Any]]:
        with self._cursor.connection.cursor("titan_rest") as rows:
            rows.execute(query, parameters, binary=True)
            while page := rows.fetchmany(_PAGE):
                yield page

    def _parameters(self, number: int) -> list[Any]:
        return [self._vectors[number], *self._weight_values, *self._scope.parameters]

    def _scored(self, number: int, rows: Sequence[Any]) -> list[Candidate]:
        import numpy as np

        if self._where:
            rows = [row for row in rows if self._fulfils(row[2])]
        if not rows:
            return []
        query = self._queries[number]
        # Row by row, as the local search does it: equal rows then have equal scores.
        scores = (from_binary([row[3] for row in rows], len(query)) * query).sum(axis=1)
        if self._fading is not None:
            scores *= _weights(self._fading, np.array([row[1] for row in rows], np.float64))
        self.rescored_rows += len(rows)
        distances = (-rounded(scores)).tolist()
        return [
            Candidate(distance, row[0], self._place) for distance, row in zip(distances, rows, strict=True)
        ]

    def _fulfils(self, metadata: str | None) -> bool:
        read: Mapping[str, Any] | None = None if metadata is None else json.loads(metadata)
        return all(fulfils(read, condition) for condition in self._where)


def _weights(fading: Fading, times: np.ndarray) -> np.ndarray:
    import numpy as np

    ages = np.maximum(fading.now - times, 0.0)
    weights: np.ndarray = np.maximum(fading.floor, np.exp2(-ages / fading.half_life_seconds))
    return weights


def _weight(fading: Fading | None) -> tuple[str, list[Any]]:
    if fading is None:
        return "", []
    # PostgreSQL takes an underflow for an error: nothing fades below 2^-100, which no decimal shows.
    return (
        "* greatest(%s::float8, power(2::float8, greatest(-100, -greatest(%s - time, 0) / %s)))",
        [fading.floor, fading.now, fading.half_life_seconds],
    )
