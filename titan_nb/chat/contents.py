"""Which chats a local memory has, and their chunks, as the catalogue says."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone

from titan_nb.chat.catalog import CHUNK_ROWS, Catalog, ChunkRow, Counters
from titan_nb.chat.chunk import Chunk, Files
from titan_nb.chat.records import ChatStats
from titan_nb.chat.store import refuse_mixture
from titan_nb.errors import ChatError

__all__ = ["Chat", "Contents"]

_LARGEST_COUNTED_ID = 1 << 62
"""Larger ids, such as hashes, do not move the ids that are given by default."""


@dataclass(slots=True)
class Chat:
    """One chat.

    Attributes:
        number: Its number in the catalogue.
        name: Its id for the user.
        dimension: Numbers per row.
        encoder: What made its rows; None when the user brought them.
        added: When items were last added, in seconds since 1970.
        chunks: Its chunks, the oldest first; rows are added to the last.
    """

    number: int
    name: str
    dimension: int
    encoder: str | None
    added: float
    chunks: list[Chunk] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """Number of items."""
        return sum(chunk.count - chunk.dead for chunk in self.chunks)

    def stats(self) -> ChatStats:
        """Return what it holds."""
        size = sum(chunk.rows_bytes or chunk.disk_bytes for chunk in self.chunks)
        added = datetime.fromtimestamp(self.added, timezone.utc)
        return ChatStats(self.rows, size, self.dimension, added, self.encoder)

    def fits(self, dimension: int, encoder: str | None) -> bool:
        """Say whether rows or a query of this dimension and encoder go with what it holds."""
        same = encoder is None or self.encoder is None or encoder == self.encoder
        return same and dimension == self.dimension

    def refuse_mixture(self, dimension: int, encoder: str | None, subject: str) -> None:
        """Refuse rows or a query that do not fit.

        Raises:
            ChatError: If they do not.
        """
        if not self.fits(dimension, encoder):
            refuse_mixture({self.name: self.stats()}, self.name, dimension, encoder, subject)


class Contents:
    """Chats by id, and chunks by number.

    Args:
        files: Where the files of rows are.
        durable: Whether all rows are in files.

    Attributes:
        durable: The same.
    """

    def __init__(self, files: Files, *, durable: bool) -> None:
        self.chats: dict[str, Chat] = {}
        self.chunks: dict[int, Chunk] = {}
        self.counters = Counters(0, 1, 0)
        self.durable = durable
        self._files = files
        self._begun: dict[int, Chunk] = {}

    def load(self, catalog: Catalog) -> None:
        """Take over what the catalogue says; rows in memory stay where they are."""
        known: Mapping[int, Chunk] = {**self._begun, **self.chunks}
        chats = {row.number: Chat(*row, 0.0) for row in catalog.chats()}
        for chat in chats.values():
            before = self.chats.get(chat.name)
            if before is not None and before.number == chat.number:
                chat.added = before.added
        chunks: dict[int, Chunk] = {}
        for row in catalog.chunks():
            chat = chats[row.chat]
            chunk = known.get(row.number)
            if chunk is None:
                chunk = Chunk(row.number, chat.name, row.dimension, self._files, durable=self.durable)
            count = row.size
            if not self.durable:
                # In memory an add notes only its items; rows that were seen are never taken back.
                count = max(count, chunk.count, catalog.end(row.number))
            if (count, row.dead) != (chunk.count, chunk.dead) or chunk.dead:
                chunk.reset(count, row.dead)
            chat.chunks.append(chunk)
            chat.added = max(chat.added, row.added)
            chunks[row.number] = chunk
        counters = catalog.counters()
        if not self.durable:
            counters = Counters(
                max(self.counters.next_id, catalog.last_id(_LARGEST_COUNTED_ID) + 1),
                max(self.counters.next_chunk, counters.next_chunk),
                max(self.counters.changes, counters.changes),
            )
        self.chats = {chat.name: chat for chat in chats.values()}
        self.chunks = chunks
        self.counters = counters

    def begin_chunk(self, chat: str, dimension: int) -> Chunk:
        """Return a new chunk, which counts only when it is in the catalogue."""
        number = self.counters.next_chunk
        self.counters = self.counters._replace(next_chunk=number + 1)
        chunk = self._begun[number] = Chunk(number, chat, dimension, self._files, durable=self.durable)
        if self.durable:
            chunk.create()
        return chunk

    def chunk_with_room(self, chat: Chat) -> Chunk:
        """Return the chunk of a chat that rows are added to, a new one where the last is full."""
        last = chat.chunks[-1] if chat.chunks else None
        if last is None or last.count == CHUNK_ROWS:
            return self.begin_chunk(chat.name, chat.dimension)
        return last

    def keep(self, chat: Chat, chunk: Chunk) -> None:
        """Let a chunk be one of a chat's, if it is not, and the chat one of these."""
        if chunk.number not in self.chunks:
            chat.chunks.append(chunk)
            self.chunks[chunk.number] = chunk
        self.chats.setdefault(chat.name, chat)
        self._begun.pop(chunk.number, None)

    def drop(self, chunks: Iterable[Chunk]) -> None:
        """Let go of chunks that the catalogue does not name any more, and of their files."""
        for chunk in chunks:
            self.chunks.pop(chunk.number, None)
            # A file that stays is removed when the folder is opened again.
            with contextlib.suppress(ChatError, OSError):
                self._files.remove(chunk.number)

    def settle(self) -> None:
        """Let go of what a call has begun and not brought to an end."""
        begun, self._begun = self._begun, {}
        self.drop([chunk for number, chunk in begun.items() if number not in self.chunks])
        if self.durable:
            for chunk in self.chunks.values():
                chunk.cut()

    def changed(self) -> Counters:
        """Count a change after which places do not mean what they meant before."""
        self.counters = self.counters._replace(changes=self.counters.changes + 1)
        return self.counters

    def next_id_after(self, ids: Iterable[int]) -> int:
        """Return the next id to give by default, once the user has given these."""
        counted = [number for number in ids if number < _LARGEST_COUNTED_ID]
        return max(self.counters.next_id, max(counted, default=-1) + 1)

    def put(self, catalog: Catalog, chat: Chat, chunk: Chunk, count: int, dead: int, added: float) -> None:
        """Write into the catalogue what a chunk is going to be."""
        catalog.put_chunk(ChunkRow(chunk.number, chat.number, chunk.dimension, count, dead, added))

    def fitting(self, name: str | None, dimension: int, encoder: str | None) -> list[Chat]:
        """Return the chat of this id, or all, as far as a query of this dimension and encoder fits.

        Raises:
            ChatError: If there are some, and it fits none.
        """
        if name is None:
            chats = list(self.chats.values())
        else:
            chats = [self.chats[name]] if name in self.chats else []
        fitting = [chat for chat in chats if chat.fits(dimension, encoder)]
        if not chats or fitting:
            return fitting
        if len(chats) == 1:
            chats[0].refuse_mixture(dimension, encoder, "the query")
        held = sorted({chat.dimension for chat in chats})
        if dimension not in held:
            raise ChatError(
                f"the query has {dimension} numbers, and the chats hold rows of {', '.join(map(str, held))}: "
                "use the model that made the rows"
            )
        raise ChatError(
            f"the query comes from the encoder {encoder!r}, and no chat with rows of {dimension} numbers "
            "does: use the encoder that made the rows"
        )
