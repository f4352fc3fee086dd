"""Search: which rows of some blocks are nearest to queries, and the proof."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from titan_nb.chat import bits, faiss_scan
from titan_nb.chat.bits import Sketched
from titan_nb.chat.block import Answer, Block, Found
from titan_nb.chat.certify import ROUNDING, Certificate, Table, dot_products, rounded
from titan_nb.chat.device import own_rules
from titan_nb.chat.parts import CodedPart, DevicePart, Part, RowsPart, SparsePart, float32_error, some_rows
from titan_nb.chat.scans import Queries
from titan_nb.chat.top import near

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.faiss_scan import FaissRows
    from titan_nb.chat.store import Mode

__all__ = ["CODED_ROWS", "search"]

CODED_ROWS = 20_000
"""Fewer rows than this in all are read in float32, without codes."""

# A block of fewer rows has no codes: calling a kernel for it would cost more than it saves.
_BLOCK_ROWS = 4096
_PART_ROWS = 65_536
# So many rows get codes in one search, so that none takes long over it.
_NEW_CODES = 131_072
_NEW_BITS = 65_536
_QUERIES = 64
# Where fewer than one row of so many is alive, these are gathered instead of reading all.
_SPARSE = 16


def search(blocks: Sequence[Block], queries: np.ndarray, k: int, *, mode: Mode = "exact") -> Answer:
    """Return the k best rows for each query, best first, equal scores by number.

    A score is the float64 dot product of row and query times the row's weight, rounded to 12 decimals. All
    rows are scored approximately first: in float32 where there are few, else by int8 codes, or by the copy
    on a GPU. The rows which the error of that may have kept out of the best k are scored in float64, so
    that the answer is the same in each case.

    The first search over a block reads its rows in float32; later ones make the codes, for some 131,072
    rows a search.

    Args:
        blocks: Where to look; all of one dimension.
        queries: Unit rows, float32, shape (m, d).
        k: How many rows to return per query; fewer where there are fewer.
        mode: ``exact`` for what brute force in float64 over all rows would give. ``fast`` may leave out a
            few of the best k in a thousand, see `titan_nb.chat.bits`, and `titan_nb.chat.faiss_scan` for a
            process that has imported faiss; small memories, and those where it would not be faster, are
            searched exactly all the same.
    """
    import numpy as np

    queries = np.ascontiguousarray(queries, dtype=np.float32)
    if len(blocks) == 1 and len(queries) == 1 and k > 0 and _is_small(blocks[0]):
        return _alone(blocks[0], queries[0], k)
    table = Table(blocks)
    if k < 1 or not len(table) or not len(queries):
        return Answer([[] for _ in queries], certified=True, rescored_rows=0)
    found: list[list[Found]] = []
    rescored, certified = 0, True
    parts = _parts(table, fast=mode == "fast")
    with _rules(parts):
        for first in range(0, len(queries), _QUERIES):
            some = queries[first : first + _QUERIES]
            proofs = [Certificate(table, query, k) for query in some]
            certified = _offer(parts, Queries(some), proofs, k) and certified
            found += [proof.found() for proof in proofs]
            rescored += sum([proof.rescored_rows for proof in proofs])
    return Answer(found, certified, rescored)


def _rules(parts: Sequence[Part]) -> contextlib.AbstractContextManager[None]:
    """Return the rules that torch needs, where it has work to do."""
    torch = sys.modules.get("torch")
    if torch is None or all(isinstance(part, RowsPart | SparsePart) for part in parts):
        return contextlib.nullcontext()
    return own_rules(torch.device("cpu"))


def _is_small(block: Block) -> bool:
    return 0 < len(block.rows) < _BLOCK_ROWS and block.weights is None and block.index.device_rows is None


def _alone(block: Block, query: np.ndarray, k: int) -> Answer:
    """Return what `search` does, for the commonest case: one query in one chat of some thousand rows.

    The same as the general way, without the steps that one block and one query can do without; these would
    take three times as long as the product.
    """
    import numpy as np

    values = block.rows.dot(query)
    if block.alive is not None:
        values[~block.alive] = -np.inf
    exact_query = query.astype(np.float64)
    slack = 1.000001 * math.sqrt(exact_query.dot(exact_query)) * float32_error(len(query)) + ROUNDING
    places = near(values, k, slack, -math.inf)
    scores = rounded(dot_products(block.rows, places, exact_query))
    ids = block.ids(places)
    order = np.lexsort((ids, -scores))[:k]
    rows = zip(places[order].tolist(), ids[order].tolist(), scores[order].tolist(), strict=True)
    return Answer([[Found(0, *row) for row in rows]], certified=True, rescored_rows=len(places))


def _offer(parts: Sequence[Part], queries: Queries, proofs: Sequence[Certificate], k: int) -> bool:
    """Offer the candidates of all parts to the proofs; return whether none was left to chance."""
    sketched: list[tuple[CodedPart, Sketched]] = []
    with_faiss: list[tuple[CodedPart, FaissRows]] = []
    for part in parts:
        if isinstance(part, CodedPart) and part.faiss_rows is not None:
            with_faiss.append((part, part.faiss_rows))
            continue
        if isinstance(part, CodedPart) and part.sketches is not None:
            sketched.append((part, Sketched(part.sketches, part.codes, part.block.alive)))
            continue
        reaches = part.reach(queries, k, [proof.floor for proof in proofs])
        for proof, reach in zip(proofs, reaches, strict=True):
            proof.offer(reach)
    certified = not with_faiss
    for number, proof in enumerate(proofs if sketched or with_faiss else ()):
        query = Queries(queries.rows[number : number + 1])
        likely = bits.likely([some for _, some in sketched], query, k) if sketched else None
        for place, (part, _) in enumerate(sketched):
            if likely is None:
                proof.offer(part.reach(query, k, [proof.floor])[0])
            else:
                proof.offer(part.reach_among(likely[place], query, k, proof.floor))
        certified = certified and likely is None
        if with_faiss:
            faiss_scan.offer(with_faiss, query, proof, k)
    return certified


def _parts(table: Table, *, fast: bool) -> list[Part]:
    """Return how the rows are read: together, the parts cover each row that counts once."""
    coded = len(table) >= CODED_ROWS
    parts: list[Part] = []
    together: list[Block] = []
    together_rows = start = 0
    new = _New(
        _NEW_CODES,
        bits=_NEW_BITS if fast and bits.available(table.dimension) else 0,
        faiss=_NEW_BITS if fast and faiss_scan.available(table.dimension) else 0,
    )
    for block in table.blocks:
        count = len(block.rows)
        special = _special(block, start, new) if coded or block.index.device_rows is not None else []
        if together and (special or together_rows + count > _PART_ROWS):
            parts.append(RowsPart(together, start - together_rows))
            together, together_rows = [], 0
        parts += special
        start += count
        if not special:
            together.append(block)
            together_rows += count
    if together:
        parts.append(RowsPart(together, start - together_rows))
    return parts


@dataclass
class _New:
    """How many rows may still get codes, sketches, and a place in a faiss index in this search."""

    codes: int
    bits: int
    faiss: int


def _special(block: Block, start: int, new: _New) -> list[Part]:
    """Return how a block is read that is not read in float32 from end to end; nothing for one that is."""
    import numpy as np

    count = len(block.rows)
    on_device = block.index.device_rows
    held = 0 if on_device is None else min(count, on_device.count)
    if held:
        parts: list[Part] = [DevicePart(block, start, held)]
        if held < count:
            parts.append(RowsPart([some_rows(block, slice(held, count))], start + held))
        return parts
    if count < _BLOCK_ROWS:
        return []
    if block.alive is not None and int(np.count_nonzero(block.alive)) * _SPARSE <= count:
        return [SparsePart(block, block.alive, start)]
    index = block.index
    missing = max(0, count - index.count)
    if missing and (not index.searched or new.codes <= 0):
        index.searched = True
        return []
    new.codes -= missing
    codes = index.codes(block.rows)
    if new.faiss > 0 and count >= faiss_scan.FEWEST_ROWS and block.weights is None and block.alive is None:
        new.faiss -= max(0, count - index.faiss_count)
        faiss_rows = index.faiss_rows(block.rows)
        if faiss_rows is not None:
            return [CodedPart(block, start, codes, faiss_rows=faiss_rows)]
    sketches = None
    missing = max(0, count - index.sketched_count)
    if new.bits > 0 and block.weights is None:
        new.bits -= missing
        sketches = index.sketches(block.rows)
    return [CodedPart(block, start, codes, sketches)]
