"""Rows in one bit a number: a sketch that finds the rows worth a closer look.

After a random rotation, a row and a query at the angle a differ in the sign of each number with the
probability a / pi, so that the number of differing signs tells the angle (Charikar, Similarity estimation
techniques from rounding algorithms, STOC 2002). Counting them takes an exclusive or and a count of bits: 48
bytes a row at 384 numbers, in place of 384.

A search takes the rows with the fewest differing signs first and scores them by their int8 codes. A row that
scores like the k-th best of those differs in about D a / pi of D signs, and all rows up to 2.3 times
sqrt(D a / pi (1 - a / pi)) above that are scored. That root is the standard deviation for signs that do not
depend on each other; those of a rotation spread less, at 384 numbers 0.76 of it at right angles and 0.85 of
it near 40 degrees, as measured: one of the best k is left out with a probability of about 0.003 or less.

Where that is more than an eighth of all rows, as with vectors that have nothing to do with each other (a
third of 1,000,000 independent rows of 384 numbers), sketches save nothing, and the search is an exact one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.codes import Codes
    from titan_nb.chat.scans import Queries

__all__ = [
    "DEVIATIONS",
    "LARGEST_DIMENSION",
    "Sketched",
    "available",
    "likely",
    "rotation",
    "sketch",
    "words_of",
]

DEVIATIONS = 2.3
"""How many standard deviations of independent signs above what its score lets expect a row may differ in."""

LARGEST_DIMENSION = 2048
"""Longer rows are not rotated: a rotation takes the square of it in memory."""

_WORD_BITS = 64
_FIRST_ROWS = 512
_MOST_OF = 8
_SEED = 20
_ROTATED_ROWS = 4096
_COUNTED_ROWS = 16384
_DEAD = 65535


class Sketched(NamedTuple):
    """Rows with sketches.

    Attributes:
        sketches: uint64 (w, n): the first words of all rows, then their second words, and so on.
        codes: The int8 codes of the same rows.
        alive: Which rows count, bool (n,); None for all.
    """

    sketches: np.ndarray
    codes: Codes
    alive: np.ndarray | None


def available(dimension: int) -> bool:
    """Return whether rows of this dimension can be sketched here: NumPy counts bits from 2.0 on."""
    import numpy as np

    return hasattr(np, "bitwise_count") and dimension <= LARGEST_DIMENSION


def words_of(dimension: int) -> int:
    """Return how many words of 64 bits a sketch has."""
    return -(-dimension // _WORD_BITS)


@functools.lru_cache(maxsize=4)
def rotation(dimension: int) -> np.ndarray:
    """Return a random rotation, float32 (d, 64 w), the same in each process; zeros lengthen rows."""
    import numpy as np

    width = words_of(dimension) * _WORD_BITS
    # A generator of its own: the user's stays untouched.
    normal = np.random.default_rng(_SEED).standard_normal((width, width))
    square: np.ndarray = np.linalg.qr(normal)[0]
    return np.ascontiguousarray(square[:dimension], dtype=np.float32)


def sketch(rows: np.ndarray, out: np.ndarray) -> None:
    """Fill ``out``, uint64 (w, n), with the signs of the rotated ``rows``, float32 (n, d)."""
    import numpy as np

    turn = rotation(rows.shape[1])
    for first in range(0, len(rows), _ROTATED_ROWS):
        part = slice(first, first + _ROTATED_ROWS)
        signs = np.packbits(rows[part] @ turn > 0, axis=1)
        out[:, part] = signs.view(np.uint64).T


def likely(parts: Sequence[Sketched], queries: Queries, k: int) -> list[np.ndarray] | None:
    """Return the rows of each part that are worth a closer look, or None where they are too many.

    Args:
        parts: Rows with sketches.
        queries: One query.
        k: How many rows are wanted.
    """
    import numpy as np

    signs = np.empty((words_of(queries.rows.shape[1]), 1), dtype=np.uint64)
    sketch(queries.rows, signs)
    width = len(signs) * _WORD_BITS
    differing = [_differing(words, signs[:, 0], alive) for words, _, alive in parts]
    rows = sum([len(counts) for counts in differing])
    up_to = np.zeros(width + 1, dtype=np.int64)
    for counts in differing:
        up_to += np.bincount(counts, minlength=width + 1)[: width + 1]
    up_to = up_to.cumsum()
    first = int(np.searchsorted(up_to, max(_FIRST_ROWS, 4 * k)))
    if first > width or up_to[first] * _MOST_OF > rows:
        return None
    near = [np.flatnonzero(counts <= first) for counts in differing]
    scores = [
        queries.score(codes.take(places))[0][:, 0]
        for (_, codes, _), places in zip(parts, near, strict=True)
        if len(places)
    ]
    length = float(queries.lengths[0])
    cosine = float(np.partition(np.concatenate(scores), -k)[-k]) / length
    share = math.acos(min(1.0, max(-1.0, cosine))) / math.pi
    last = math.ceil(width * share + DEVIATIONS * math.sqrt(width * share * (1 - share)))
    if last <= first:
        return near
    if last > width or up_to[last] * _MOST_OF > rows:
        return None
    return [np.flatnonzero(counts <= last) for counts in differing]


def _differing(words: np.ndarray, signs: np.ndarray, alive: np.ndarray | None) -> np.ndarray:
    """Return in how many bits each row differs, uint16 (n,); 65,535 for rows that do not count."""
    import numpy as np

    count = words.shape[1]
    differing = np.empty(count, dtype=np.uint16)
    room = np.empty(min(count, _COUNTED_ROWS), dtype=np.uint64)
    ones = np.empty(len(room), dtype=np.uint8)
    for first in range(0, count, _COUNTED_ROWS):
        out = differing[first : first + _COUNTED_ROWS]
        some, bits = room[: len(out)], ones[: len(out)]
        for number, sign in enumerate(signs):
            np.bitwise_xor(words[number, first : first + len(out)], sign, out=some)
            np.bitwise_count(some, out=bits)
            if number:
                np.add(out, bits, out=out)
            else:
                out[...] = bits
    if alive is not None:
        differing[~alive] = _DEAD
    return differing
