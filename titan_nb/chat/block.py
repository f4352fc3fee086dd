"""What a search sees of one chunk at one moment, and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.index import Index

__all__ = ["Answer", "Block", "Found"]


@dataclass(frozen=True, slots=True)
class Block:
    """The rows of a chunk at one moment; rows added later do not show in it.

    Attributes:
        rows: Unit rows, float32, shape (n, d), C order; resident, or mapped from a file.
        index: The codes of the chunk's rows; they may cover fewer rows than n, or more.
        ids: Returns the numbers of the rows at these places: int64 (m,) -> int64 (m,). Asked only for rows
            that tie, and for those that are found.
        alive: Which rows count, bool, shape (n,); None for all.
        weights: What each row's score is multiplied by, float64 from 0 to 1, shape (n,); None for 1.
    """

    rows: np.ndarray
    index: Index
    ids: Callable[[np.ndarray], np.ndarray]
    alive: np.ndarray | None = None
    weights: np.ndarray | None = None


class Found(NamedTuple):
    """Where one row is, its number, and its score in float64, rounded to 12 decimals.

    Rounded, because equal rows must tie, and the last digits of a sum depend on who made it.
    """

    block: int
    row: int
    id: int
    score: float


class Answer(NamedTuple):
    """The rows found.

    Attributes:
        found: One list per query, best first, equal scores by number.
        certified: Whether each list is proved to be what brute force in float64 would give.
        rescored_rows: How many rows were scored in float64, over all queries.
    """

    found: list[list[Found]]
    certified: bool
    rescored_rows: int
