"""The store on one or several PostgreSQL servers."""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from titan_nb.chat.postgres.connection import Server
from titan_nb.chat.postgres.contents import (
    change_item,
    drop_items,
    insert,
    keep_free,
    read_chats,
    read_items,
)
from titan_nb.chat.postgres.fan import on_each
from titan_nb.chat.postgres.index import build_index, has_index
from titan_nb.chat.postgres.members import Members
from titan_nb.chat.postgres.scope import scopes_of
from titan_nb.chat.postgres.search import find_best
from titan_nb.chat.postgres.size import bytes_on_disk, vacuum
from titan_nb.chat.postgres.vectors import LARGEST_DIMENSION
from titan_nb.chat.postgres.where import is_text, selected
from titan_nb.chat.records import ChatStats, Compacted
from titan_nb.chat.store import Batch, Change, Fading, Match, Matches, Mode, Selection, StoredItem
from titan_nb.chat.where import fulfils
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import numpy as np
    from psycopg import Cursor

    from titan_nb.chat.recover import Recovered

__all__ = ["PostgresStore"]

_TIMEOUT_SECONDS = 120.0
_PAGE_ITEMS = 256
# The unique index on chats holds no more than a third of a page.
_CHAT_ID_BYTES = 2000


class PostgresStore:
    """Items on PostgreSQL with pgvector, each chat on one of the servers.

    Tables are made in the databases when they are opened for the first time. A batch is one transaction: when
    `add` returns, it is committed.

    Args:
        urls: ``postgresql://user:password@host:port/database``, one per server, always all of them.
        timeout_seconds: The most that one statement may take before it is given up.

    Raises:
        ChatError: If a server cannot be reached or used, or the list is not that of the memory.
    """

    def __init__(self, urls: Sequence[str], *, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._members = Members(urls, timeout_seconds)

    def __repr__(self) -> str:
        return f"<PostgresStore on {', '.join(server.name for server in self._members.servers)}>"

    def add(self, chat_id: str, batch: Batch) -> list[int]:
        """Store a batch and return the numbers of its rows, once it is committed; see `Store`."""
        _refuse_unstorable(chat_id, batch.texts, batch.rows.shape[1])
        server = self._members.of(chat_id)
        if batch.ids is None:
            with self._members.write_all([server]) as (cursor,):
                return insert(cursor, chat_id, batch)
        servers = self._members.servers
        with self._members.write_all(servers, alone=True) as cursors:
            for place, cursor in enumerate(cursors):
                keep_free(cursor, batch.ids, place, len(servers))
            return insert(cursors[servers.index(server)], chat_id, batch)

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
        """Return the k best items for each query; see `Store`.

        ``fast`` asks the servers' indexes where all have one (`create_index`); else it is ``exact``.
        """
        dimension = queries.shape[1]
        with self._members.read_all(self._of(selection.chat_id)) as cursors:
            scopes = scopes_of(cursors, selection, dimension, encoder)
            if dimension > LARGEST_DIMENSION:
                return Matches([[] for _ in queries], True, 0)
            fast = mode == "fast" and all(has_index(cursor, dimension) for cursor in cursors)
            best, rescored = find_best(cursors, scopes, queries, k, selection.where, fading, fast=fast)
            wanted: list[list[int]] = [[] for _ in cursors]
            for found in best:
                for one in found:
                    wanted[one.place].append(one.id)
            parts = on_each(
                cursors,
                lambda place, cursor: read_items(
                    cursor, "item.id = ANY(%s)", [wanted[place]], embeddings=False
                ),
            )
        items = {item.id: item for part in parts for item in part}
        # Zero is added so that no score is -0.0.
        matches = [[Match(items[one.id], 0.0 - one.distance) for one in found] for found in best]
        return Matches(matches, not fast, rescored)

    def get(self, ids: Sequence[int], *, embeddings: bool = False) -> dict[int, StoredItem]:
        """Return the items with these numbers; those that are not there are left out."""
        with self._members.read_all(self._members.servers) as cursors:
            parts = on_each(
                cursors,
                lambda _, cursor: read_items(cursor, "item.id = ANY(%s)", [[*ids]], embeddings=embeddings),
            )
        return {item.id: item for part in parts for item in part}

    def items(self, selection: Selection, *, embeddings: bool = False) -> Iterator[StoredItem]:
        """Yield the selected items by number, in pages; what is changed meanwhile may show or not."""
        pages = [self._pages(server, selection, embeddings) for server in self._of(selection.chat_id)]
        return heapq.merge(*pages, key=lambda item: item.id)

    def update(self, number: int, change: Change) -> None:
        """Change one item; see `Store`."""
        if change.text is not None:
            _refuse_unstorable("", [change.text], 0)
        for server in self._members.servers:
            with self._members.write_all([server]) as (cursor,):
                if change_item(cursor, number, change):
                    return
        raise ChatError(f"there is no item {number}: it was forgotten, or never stored")

    def forget(self, selection: Selection) -> int:
        """Drop the selected items and return how many there were; see `Store`.

        Raises:
            ChatError: If a server is lost. Where several are asked and one is lost at the very end, the items
                on others may be gone already; the message says so.
        """
        servers = self._of(selection.chat_id)
        dropped: list[int] = []
        try:
            with self._members.write_all(servers) as cursors:
                dropped = on_each(cursors, lambda _, cursor: _drop(cursor, selection))
        except ChatError as error:
            if len(dropped) > 1:
                raise ChatError(f"{error}; on other servers it may be done: forget the same again") from error
            raise
        return sum(dropped)

    def chats(self) -> dict[str, ChatStats]:
        """Return what each chat holds, the oldest chat first."""
        with self._members.read_all(self._members.servers) as cursors:
            parts = on_each(cursors, lambda _, cursor: read_chats(cursor))
        in_order = sorted((chat for part in parts for chat in part), key=lambda chat: (chat.made, chat.id))
        return {chat.id: chat.stats for chat in in_order}

    def tiers(self) -> Mapping[str, int]:
        """Return how many bytes the tables and indexes take on the servers' disks."""
        with self._members.read_all(self._members.servers) as cursors:
            return {"disk": sum(on_each(cursors, lambda _, cursor: bytes_on_disk(cursor)))}

    def compact(self) -> Compacted:
        """Write the tables anew without what was dropped.

        It needs as much free disk as the live items take, and all others wait meanwhile. Without it the room
        is used again for new items, once autovacuum has passed.
        """
        parts = [vacuum(server) for server in self._members.servers]
        return Compacted(*map(sum, zip(*parts, strict=True)))

    @property
    def recovered(self) -> tuple[Recovered, ...]:
        """Nothing: what a server has lost, it says itself."""
        return ()

    def verify(self) -> tuple[Recovered, ...]:
        """Do nothing: PostgreSQL looks after its own pages."""
        return ()

    def create_index(self) -> None:
        """Build the index of the fast search on all servers, for each dimension there is.

        Searches go on meanwhile; what adds or changes items waits. It is kept up to date from then on.

        Raises:
            ChatError: If pgvector is older than 0.8, or rows have more than 4,000 numbers.
        """
        for server in self._members.servers:
            build_index(server)

    def close(self) -> None:
        """Close all connections."""
        self._members.close()

    def _of(self, chat_id: str | None) -> list[Server]:
        if chat_id is None:
            return self._members.servers
        return [self._members.of(chat_id)] if is_text(chat_id) else []

    def _pages(self, server: Server, selection: Selection, embeddings: bool) -> Iterator[StoredItem]:
        clause, parameters = selected(selection)
        if selection.chat_id is not None:
            clause, parameters = f"{clause} AND chat.id = %s", [*parameters, selection.chat_id]
        # No transaction stays open while the user's own code runs between two items.
        clause = f"{clause} AND item.id > %s ORDER BY item.id LIMIT {_PAGE_ITEMS}"
        last = -1
        while True:
            with self._members.read_all([server]) as (cursor,):
                page = read_items(cursor, clause, [*parameters, last], embeddings=embeddings)
            yield from (item for item in page if _fulfils(item.metadata, selection))
            if len(page) < _PAGE_ITEMS:
                return
            last = page[-1].id


def _drop(cursor: Cursor[Any], selection: Selection) -> int:
    clause, parameters = selected(selection)
    if selection.chat_id is not None:
        clause += " AND chat = (SELECT number FROM titan_chat WHERE titan_chat.id = %s)"
        parameters.append(selection.chat_id)
    if selection.where:
        rows = cursor.execute(f"SELECT id, metadata FROM titan_item AS item WHERE {clause}", parameters)  # noqa: S608
        ids = [number for number, metadata in rows if _fulfils(metadata, selection)]
        clause, parameters = "item.id = ANY(%s)", [ids]
    return drop_items(cursor, clause, parameters)


def _fulfils(metadata: str | None, selection: Selection) -> bool:
    if not selection.where:
        return True
    read = None if metadata is None else json.loads(metadata)
    return all(fulfils(read, condition) for condition in selection.where)


def _refuse_unstorable(chat_id: str, texts: Sequence[str | None], dimension: int) -> None:
    bad = None if is_text(chat_id) else "the chat_id"
    for number, text in enumerate(texts):
        if text and not is_text(text):
            bad = bad or f"the text of row {number}"
    if bad is not None:
        raise ChatError(
            f"{bad} holds a NUL character or half of a surrogate pair, which PostgreSQL cannot store: take "
            "it out, such as by text.replace('\\0', '')"
        )
    if len(chat_id.encode()) > _CHAT_ID_BYTES:
        raise ChatError(
            f"the chat_id takes more than {_CHAT_ID_BYTES} bytes, the most on PostgreSQL: shorten it"
        )
    if dimension > LARGEST_DIMENSION:
        raise ChatError(
            f"row 0 has {dimension} numbers, and pgvector holds up to {LARGEST_DIMENSION}: reduce them first"
        )
