"""The store of one process: rows in memory or in files, all else in SQLite."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Protocol, TypeVar

from titan_nb.chat import changes
from titan_nb.chat.access import TRIES, Access
from titan_nb.chat.catalog import CHUNK_ROWS, SLOT_BITS
from titan_nb.chat.kernels import search
from titan_nb.chat.records import ChatStats, Compacted
from titan_nb.chat.repack import repack
from titan_nb.chat.scratch import Scratch
from titan_nb.chat.sight import Moved, Sight
from titan_nb.chat.store import Batch, Change, Fading, Matches, Mode, Selection, StoredItem
from titan_nb.chat.tiers import Tiers

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.catalog import Catalog, ItemRow
    from titan_nb.chat.folder import Folder
    from titan_nb.chat.recover import Recovered

__all__ = ["LocalStore"]

T = TypeVar("T")

_PAGE_ITEMS = 500


class LocalStore:
    """Chats of one process; see `Store` for what each method does.

    Args:
        folder: Where all is kept; None keeps it in memory. It is closed with the store.
        tiers: Which budgets the rows keep to.

    Raises:
        ChatError: If the folder's catalogue cannot be read.
        ResourceError: If the disk is full.
    """

    def __init__(self, folder: Folder | None = None, *, tiers: Tiers | None = None) -> None:
        self._durable = folder is not None
        self._scratch = Scratch()
        self._access = access = Access(folder, self._scratch)
        self._tiers = Tiers() if tiers is None else tiers
        self._tiers.attach(lambda: tuple(access.contents.chunks.values()))

    @property
    def recovered(self) -> tuple[Recovered, ...]:
        """What a failing disk has cost, as far as it was found; nearly always nothing."""
        return self._access.recovered

    def verify(self) -> tuple[Recovered, ...]:
        """Check every row against its checksum, take damaged ones out, and return what that has cost."""
        return self._access.verify()

    def add(self, chat_id: str, batch: Batch) -> list[int]:
        """Store a batch and return the numbers of its rows."""

        def change() -> list[int]:
            self._tiers.room_for(batch.rows.nbytes, on_disk=self._durable)
            ids, chunks = changes.add(self._access.contents, self._access.catalog, chat_id, batch)
            self._tiers.settle(chunks)
            return ids

        return self._access.write(change)

    def search(
        self,
        queries: np.ndarray,
        k: int,
        selection: Selection,
        *,
        mode: Mode = "exact",
        encoder: str | None = None,
        fading: Fading | None = None,
    ) -> Matches:
        """Return the k best items for each unit query."""
        see = partial(self._see, queries.shape[1], selection, encoder, fading)

        def look(read: _Reader) -> Matches:
            sight = read(partial(see, read))
            if not sight.blocks:
                return Matches([[] for _ in queries], certified=True, rescored_rows=0)
            try:
                found = sight.matches(search(sight.blocks, queries, k, mode=mode))
            finally:
                sight.blocks.clear()  # they lead back to it: a cycle that would keep forgotten rows
            with self._access.lock:
                self._tiers.settle(sight.chunks)
            return found

        for _ in range(TRIES):
            with contextlib.suppress(Moved):
                return look(self._access.read)
        # Whoever changes things all the time has to wait for once.
        return self._access.read(partial(look, _at_once))

    def get(self, ids: Sequence[int], *, embeddings: bool = False) -> dict[int, StoredItem]:
        """Return the items with these numbers; those that are not there are left out."""
        return {item.id: item for item in self._access.read(partial(self._items, ids, embeddings))}

    def items(self, selection: Selection, *, embeddings: bool = False) -> Iterator[StoredItem]:
        """Yield the selected items by number; those that are forgotten in the meantime are left out."""
        read = self._access.read
        ids = read(partial(self._ids, selection))
        pages = (ids[first : first + _PAGE_ITEMS].tolist() for first in range(0, len(ids), _PAGE_ITEMS))
        return chain.from_iterable(read(partial(self._items, page, embeddings)) for page in pages)

    def update(self, number: int, change: Change) -> None:
        """Change one item."""

        def put() -> None:
            if change.row is not None:
                self._tiers.room_for(change.row.nbytes, on_disk=self._durable)
            chunks = changes.update(self._access.contents, self._access.catalog, number, change)
            self._tiers.settle(chunks)

        self._access.write(put)

    def forget(self, selection: Selection) -> int:
        """Drop the selected items and return how many there were; a chat without items is gone."""
        return self._access.write(
            lambda: changes.forget(self._access.contents, self._access.catalog, selection)
        )

    def chats(self) -> dict[str, ChatStats]:
        """Return what each chat holds, the oldest chat first."""
        contents = self._access.contents
        return self._access.read(lambda: {name: chat.stats() for name, chat in contents.chats.items()})

    def create_index(self) -> None:
        """Do nothing: searches make their codes themselves."""

    def tiers(self) -> Mapping[str, int]:
        """Return the bytes in each tier."""
        return self._access.read(self._tiers.report)

    def compact(self) -> Compacted:
        """Give back the room of what was dropped."""
        access = self._access
        access.verify()  # what is written anew gets new checksums, and damage would get them too
        before = access.read(self._size_bytes)
        dropped = sum(access.write(partial(self._repack, name)) for name in self.chats())
        access.write(access.catalog.vacuum)
        return Compacted(before, access.read(self._size_bytes), dropped)

    @property
    def next_id(self) -> int:
        """The next id that is given by default."""
        return self._access.read(lambda: self._access.contents.counters.next_id)

    def count_from(self, number: int) -> None:
        """Give no smaller id than this by default."""

        def count() -> None:
            contents, catalog = self._access.contents, self._access.catalog
            counters = contents.counters
            contents.counters = counters._replace(next_id=max(number, counters.next_id))
            catalog.set_counters(contents.counters)

        self._access.write(count)

    def close(self) -> None:
        """Let go of files, locks and connections; nothing else may be called afterwards."""
        with self._access.lock:
            self._tiers.close()
            self._access.close()
            self._scratch.close()

    def _see(
        self,
        dimension: int,
        selection: Selection,
        encoder: str | None,
        fading: Fading | None,
        read: _Reader,
    ) -> Sight:
        contents, catalog = self._access.contents, self._access.catalog
        chats = contents.fitting(selection.chat_id, dimension, encoder)
        chunks = [chunk for chat in chats for chunk in chat.chunks]
        self._tiers.used(chunks)
        seen = contents.counters.changes

        def unmoved() -> Catalog:
            if contents.counters.changes != seen:
                raise Moved
            return catalog

        def items(places: Sequence[int]) -> list[ItemRow]:
            return read(lambda: unmoved().at_places(places))

        def ids(places: Sequence[int]) -> dict[int, int]:
            return read(lambda: unmoved().ids_at(places))

        return Sight(catalog, chunks, selection, fading, items, ids)

    def _items(self, ids: Sequence[int], embeddings: bool) -> list[StoredItem]:
        chunks = self._access.contents.chunks
        held = sorted(self._access.catalog.with_ids(ids), key=itemgetter(1))
        found = []
        for place, number, time, text, metadata in held:
            chunk = chunks[place >> SLOT_BITS]
            row = chunk.rows[place % CHUNK_ROWS].copy() if embeddings else None
            found.append(StoredItem(number, chunk.chat, text, metadata, time, row))
        return found

    def _ids(self, selection: Selection) -> np.ndarray:
        import numpy as np

        named = selection.chat_id
        chunks = self._access.contents.chunks.values()
        numbers = [chunk.number for chunk in chunks if named in (None, chunk.chat)]
        chosen = self._access.catalog.select(selection, numbers)
        ids = np.fromiter(map(itemgetter(1), chosen), dtype=np.int64)
        ids.sort()
        return ids

    def _repack(self, name: str) -> int:
        contents = self._access.contents
        chat = contents.chats.get(name)
        if chat is None:  # it was forgotten in the meantime
            return 0
        dropped = repack(contents, self._access.catalog, chat)
        self._tiers.settle(chat.chunks)
        return dropped

    def _size_bytes(self) -> int:
        chunks = self._access.contents.chunks.values()
        return self._access.catalog.bytes + sum(chunk.resident_bytes + chunk.disk_bytes for chunk in chunks)


class _Reader(Protocol):
    """Runs what looks at the store, at one moment."""

    def __call__(self, look: Callable[[], T]) -> T: ...


def _at_once(look: Callable[[], T]) -> T:
    """Look without waiting for one's turn: it is one's turn."""
    return look()
