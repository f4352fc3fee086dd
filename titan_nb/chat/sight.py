"""What one search sees of a local memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from titan_nb.chat.block import Block
from titan_nb.chat.catalog import CHUNK_ROWS, SLOT_BITS, Catalog, ItemRow
from titan_nb.chat.store import Fading, Match, Matches, Selection, StoredItem

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.block import Answer
    from titan_nb.chat.chunk import Chunk

__all__ = ["Moved", "Sight"]

_MANY = 1024
"""Of more rows than that only the ids are read: they tie, and few of them are going to be found."""


class Moved(Exception):  # noqa: N818 - no error: the search looks again
    """Since the search began to look, places have come to mean something else."""


class Sight:
    """The rows of some chunks at one moment, and the items of those that are found.

    Args:
        catalog: To be read now, and not later: other threads are kept out while this is made.
        chunks: Where to look.
        selection: Which of their items to look at.
        fading: How scores fade with age, if they do.
        items: Returns the items at these places, whenever it is called; all, or raises `Moved`.
        ids: Returns the ids of the items at these places, by place; the same holds.

    Attributes:
        chunks: Those that hold any of the items.
        blocks: Their rows, in the same order.
    """

    def __init__(
        self,
        catalog: Catalog,
        chunks: Sequence[Chunk],
        selection: Selection,
        fading: Fading | None,
        items: Callable[[Sequence[int]], list[ItemRow]],
        ids: Callable[[Sequence[int]], dict[int, int]],
    ) -> None:
        self._items = items
        self._ids = ids
        self._known: dict[int, ItemRow] = {}
        self.chunks: list[Chunk] = []
        self.blocks: list[Block] = []
        chosen = None if selection.plain else _chosen(catalog, chunks, selection)
        for chunk in chunks:
            if chunk.alive_is_unknown:
                chunk.set_alive(_slots(list(catalog.places(chunk.number))))
            alive = chunk.alive
            if chosen is not None:
                if chunk.number not in chosen:
                    continue
                alive = chosen[chunk.number]
            weights = None if fading is None else _weights(catalog.times(chunk.number), chunk.count, fading)
            read = partial(self._read_ids, chunk.number << SLOT_BITS)
            self.chunks.append(chunk)
            self.blocks.append(Block(chunk.rows, chunk.index, read, alive, weights))

    def matches(self, answer: Answer) -> Matches:
        """Return the items that a search found.

        Raises:
            Moved: If they can no longer be read.
        """
        known, chunks = self._known, self.chunks
        bases = [chunk.number << SLOT_BITS for chunk in chunks]
        places = [bases[block] + row for found in answer.found for block, row, _, _ in found]
        self._read_items([place for place in places if place not in known])
        lists = []
        for found in answer.found:
            matches = []
            for block, row, _, score in found:
                _, number, time, text, metadata = known[bases[block] + row]
                item = StoredItem(number, chunks[block].chat, text, metadata, time)
                matches.append(Match(item, score))
            lists.append(matches)
        return Matches(lists, answer.certified, answer.rescored_rows)

    def _read_ids(self, base: int, slots: np.ndarray) -> np.ndarray:
        import numpy as np

        places = [base + slot for slot in slots.tolist()]
        if len(places) > _MANY:
            ids = self._ids(places)
            return np.array([ids[place] for place in places], dtype=np.int64)
        known = self._known
        self._read_items([place for place in places if place not in known])
        return np.array([known[place][1] for place in places], dtype=np.int64)

    def _read_items(self, places: Sequence[int]) -> None:
        if places:
            self._known.update((item[0], item) for item in self._items(places))


def _chosen(catalog: Catalog, chunks: Sequence[Chunk], selection: Selection) -> dict[int, np.ndarray]:
    """Return which rows are those of selected items, by chunk; chunks without any are left out."""
    import numpy as np

    found = catalog.select(selection, [chunk.number for chunk in chunks])
    places = np.fromiter(map(itemgetter(0), found), dtype=np.int64)
    places.sort()
    counts = {chunk.number: chunk.count for chunk in chunks}
    masks: dict[int, np.ndarray] = {}
    for part in np.split(places, np.flatnonzero(np.diff(places >> SLOT_BITS)) + 1):
        if len(part):
            number = int(part[0]) >> SLOT_BITS
            mask = masks[number] = np.zeros(counts[number], dtype=bool)
            mask[_slots(part)] = True
    return masks


def _slots(places: Sequence[int] | np.ndarray) -> np.ndarray:
    import numpy as np

    slots: np.ndarray = np.asarray(places, dtype=np.int64) % CHUNK_ROWS
    return slots


def _weights(times: Sequence[tuple[int, float]], count: int, fading: Fading) -> np.ndarray:
    """Return max(floor, 2^(-age / half-life)) for each row; 0 for rows without an item."""
    import numpy as np

    weights = np.zeros(count, dtype=np.float64)
    if times:
        ages = np.maximum(fading.now - np.array([time for _, time in times], dtype=np.float64), 0.0)
        faded = np.exp2(-ages / fading.half_life_seconds)
        weights[_slots([place for place, _ in times])] = np.maximum(fading.floor, faded)
    return weights
