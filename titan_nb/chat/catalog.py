"""What a local memory holds, in SQLite: chats, chunks, and the items whose rows lie in them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from titan_nb.chat.where import Condition, fulfils, sqlite_clause

if TYPE_CHECKING:
    from titan_nb.chat.store import Selection

__all__ = ["CHUNK_ROWS", "SLOT_BITS", "Catalog", "ChatRow", "ChunkRow", "Counters", "ItemRow"]

SLOT_BITS = 16
CHUNK_ROWS = 1 << SLOT_BITS
"""Rows of a full chunk. An item's place is the number of its chunk, and then its slot in the last 16 bits."""

_GROUP = 500
"""Parameters of one statement; any SQLite takes so many."""

_VERDICTS = 4096
"""Texts of metadata whose verdict is kept while one selection is made: many items share one text."""

_TABLES = (
    # changes: how often places were changed or emptied; what was found at a place holds until then.
    "CREATE TABLE IF NOT EXISTS counters (next_id INTEGER, next_chunk INTEGER, changes INTEGER)",
    """CREATE TABLE IF NOT EXISTS chats (
        number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL, encoder TEXT)""",
    # count: the rows that count, dead ones included. dead: how many of them have no item any more.
    """CREATE TABLE IF NOT EXISTS chunks (
        number INTEGER PRIMARY KEY, chat INTEGER NOT NULL, dimension INTEGER NOT NULL,
        count INTEGER NOT NULL, dead INTEGER NOT NULL, added REAL NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS batches (
        number INTEGER PRIMARY KEY, chunk INTEGER NOT NULL, first INTEGER NOT NULL,
        count INTEGER NOT NULL, crc INTEGER NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS batches_by_chunk ON batches (chunk)",
    """CREATE TABLE IF NOT EXISTS items (
        place INTEGER PRIMARY KEY, id INTEGER NOT NULL UNIQUE, time REAL NOT NULL,
        text TEXT, metadata TEXT)""",
    "INSERT INTO counters SELECT 0, 1, 0 WHERE NOT EXISTS (SELECT 1 FROM counters)",
)

ItemRow = tuple[int, int, float, "str | None", "str | None"]
"""Place, id, time, text and metadata; plain, because a search makes one for each hit."""

_INSERT = "INSERT INTO items VALUES (?, ?, ?, ?, ?)"
_COLUMNS = "SELECT place, id, time, text, metadata FROM items WHERE "


class Counters(NamedTuple):
    """What is counted over the whole life of a memory."""

    next_id: int
    next_chunk: int
    changes: int


class ChatRow(NamedTuple):
    """One chat."""

    number: int
    name: str
    dimension: int
    encoder: str | None


class ChunkRow(NamedTuple):
    """One chunk."""

    number: int
    chat: int
    dimension: int
    size: int
    dead: int
    added: float


class Catalog:
    """The statements that a local memory makes; the caller keeps other threads out, and commits.

    Args:
        connection: In autocommit, to an empty database or one that this class made.
        read_only: Whether the tables are there and must not be written.
    """

    def __init__(self, connection: sqlite3.Connection, *, read_only: bool = False) -> None:
        self.connection = connection
        self._execute = connection.execute
        if not read_only:
            self.begin()
            for statement in _TABLES:
                self._execute(statement)
            self.commit()

    def begin(self) -> None:
        """Begin a transaction."""
        self._execute("BEGIN")

    def commit(self) -> None:
        """Make what was written since `begin` count; in a file it is on the disk then."""
        self._execute("COMMIT")

    def rollback(self) -> None:
        """Forget what was written since `begin`, if anything was begun."""
        if self.connection.in_transaction:
            self._execute("ROLLBACK")

    def data_version(self) -> int:
        """Return a number that changes when another process has committed something."""
        return int(self._execute("PRAGMA data_version").fetchone()[0])

    @property
    def bytes(self) -> int:
        """Size of the database."""
        pages = self._execute("PRAGMA page_count").fetchone()[0]
        return int(pages * self._execute("PRAGMA page_size").fetchone()[0])

    def vacuum(self) -> None:
        """Give back the room of what was deleted."""
        self._execute("VACUUM")
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def counters(self) -> Counters:
        """Return the counters."""
        return Counters(*self._execute("SELECT next_id, next_chunk, changes FROM counters").fetchone())

    def set_counters(self, counters: Counters) -> None:
        """Keep the counters."""
        self._execute("UPDATE counters SET next_id = ?, next_chunk = ?, changes = ?", counters)

    def chats(self) -> list[ChatRow]:
        """Return all chats, the oldest first."""
        found = self._execute("SELECT number, name, dimension, encoder FROM chats ORDER BY number")
        return [ChatRow(*row) for row in found]

    def chunks(self) -> list[ChunkRow]:
        """Return all chunks, the oldest first."""
        found = self._execute(
            "SELECT number, chat, dimension, count, dead, added FROM chunks ORDER BY number"
        )
        return [ChunkRow(*row) for row in found]

    def add_chat(self, name: str, dimension: int, encoder: str | None) -> int:
        """Add a chat and return its number."""
        added = self._execute(
            "INSERT INTO chats (name, dimension, encoder) VALUES (?, ?, ?)", (name, dimension, encoder)
        )
        return int(added.lastrowid or 0)

    def set_encoder(self, chat: int, encoder: str | None) -> None:
        """Note what makes the rows of a chat."""
        self._execute("UPDATE chats SET encoder = ? WHERE number = ?", (encoder, chat))

    def put_chunk(self, chunk: ChunkRow) -> None:
        """Add a chunk, or note what has become of it."""
        self._execute("REPLACE INTO chunks VALUES (?, ?, ?, ?, ?, ?)", chunk)

    def add_batch(self, chunk: int, first: int, count: int, crc: int) -> None:
        """Note what an append wrote, so that it can be told whether all of it is still there."""
        self._execute(
            "INSERT INTO batches (chunk, first, count, crc) VALUES (?, ?, ?, ?)", (chunk, first, count, crc)
        )

    def drop_chunk(self, number: int) -> None:
        """Delete a chunk with the items whose rows lie in it."""
        self._execute("DELETE FROM items WHERE place BETWEEN ? AND ?", _places(number))
        self._execute("DELETE FROM batches WHERE chunk = ?", (number,))
        self._execute("DELETE FROM chunks WHERE number = ?", (number,))

    def drop_chat(self, number: int) -> None:
        """Delete a chat whose chunks are gone."""
        self._execute("DELETE FROM chats WHERE number = ?", (number,))

    def add_item(self, item: ItemRow) -> None:
        """Add one item."""
        self._execute(_INSERT, item)

    def add_items(self, items: Iterable[ItemRow]) -> None:
        """Add items."""
        self.connection.executemany(_INSERT, items)

    def change_item(self, item: ItemRow, place: int) -> None:
        """Put an item, which lay at ``place``, where and what it is now."""
        new_place, _, _, text, metadata = item
        self._execute(
            "UPDATE items SET place = ?, text = ?, metadata = ? WHERE place = ?",
            (new_place, text, metadata, place),
        )

    def move_items(self, moves: Iterable[tuple[int, int]]) -> None:
        """Give items a new place: pairs of the new one and the old one."""
        self.connection.executemany("UPDATE items SET place = ? WHERE place = ?", moves)

    def drop_items(self, places: Iterable[int]) -> None:
        """Delete the items at these places."""
        self.connection.executemany("DELETE FROM items WHERE place = ?", ((place,) for place in places))

    def at_places(self, places: Sequence[int]) -> list[ItemRow]:
        """Return the items at these places, in any order."""
        return self._in_groups(_COLUMNS + "place", places)

    def with_ids(self, ids: Sequence[int]) -> list[ItemRow]:
        """Return the items with these ids, in any order."""
        return self._in_groups(_COLUMNS + "id", ids)

    def ids_at(self, places: Sequence[int]) -> dict[int, int]:
        """Return the ids of the items at these places, by place."""
        return dict(self._in_groups("SELECT place, id FROM items WHERE place", places))

    def taken(self, ids: Sequence[int]) -> list[int]:
        """Return those of these ids that some item has."""
        return [number for (number,) in self._in_groups("SELECT id FROM items WHERE id", ids)]

    def times(self, chunk: int) -> list[tuple[int, float]]:
        """Return place and time of the items of a chunk."""
        found = self._execute("SELECT place, time FROM items WHERE place BETWEEN ? AND ?", _places(chunk))
        return found.fetchall()

    def places(self, chunk: int) -> Iterator[int]:
        """Yield the places of the items of a chunk, rising."""
        found = self._execute(
            "SELECT place FROM items WHERE place BETWEEN ? AND ? ORDER BY place", _places(chunk)
        )
        return (place for (place,) in found)

    def end(self, chunk: int) -> int:
        """Return the slot after the last that has an item."""
        (last,) = self._execute(
            "SELECT max(place) FROM items WHERE place BETWEEN ? AND ?", _places(chunk)
        ).fetchone()
        return 0 if last is None else int(last) % CHUNK_ROWS + 1

    def last_id(self, below: int) -> int:
        """Return the largest id under ``below``; -1 where there is none."""
        (last,) = self._execute("SELECT max(id) FROM items WHERE id < ?", (below,)).fetchone()
        return -1 if last is None else int(last)

    def select(self, selection: Selection, chunks: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Yield place and id of the items in these chunks that a selection means, whatever its chat."""
        clause, values = sqlite_clause(selection.where)
        parameters: list[Any] = []
        if selection.since is not None:
            clause, parameters = clause + " AND time >= ?", [*parameters, selection.since]
        if selection.until is not None:
            clause, parameters = clause + " AND time < ?", [*parameters, selection.until]
        parameters = values + parameters
        # Metadata may be long: it is read only where it is asked for.
        columns = "place, id, metadata" if selection.where else "place, id"
        start = f"SELECT {columns} FROM items WHERE "  # noqa: S608  # no value is in it
        rows: Iterable[Any]
        if selection.ids is None:
            statement = start + "place BETWEEN ? AND ?" + clause
            each = (self._execute(statement, [*_places(chunk), *parameters]) for chunk in chunks)
            rows = chain.from_iterable(each)
        else:
            meant = set(chunks)
            ids = list(dict.fromkeys(selection.ids))
            found = self._in_groups(start + "id", ids, clause, parameters)
            rows = (row for row in found if row[0] >> SLOT_BITS in meant)
        return _fulfilling(rows, selection.where) if selection.where else iter(rows)

    def _in_groups(
        self, start: str, values: Sequence[int], clause: str = "", parameters: Sequence[Any] = ()
    ) -> list[Any]:
        found: list[Any] = []
        for first in range(0, len(values), _GROUP):
            group = values[first : first + _GROUP]
            marks = ",".join("?" * len(group))
            found += self._execute(f"{start} IN ({marks}){clause}", [*group, *parameters])
        return found


def _places(chunk: int) -> tuple[int, int]:
    first = chunk << SLOT_BITS
    return first, first + CHUNK_ROWS - 1


def _fulfilling(
    rows: Iterable[tuple[int, int, str | None]], where: tuple[Condition, ...]
) -> Iterator[tuple[int, int]]:
    verdicts: dict[str | None, bool] = {}
    for place, number, metadata in rows:
        verdict = verdicts.get(metadata)
        if verdict is None:
            read = None if metadata is None else json.loads(metadata)
            verdict = all(fulfils(read, condition) for condition in where)
            if len(verdicts) < _VERDICTS:
                verdicts[metadata] = verdict
        if verdict:
            yield place, number
