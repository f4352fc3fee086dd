"""What is read and written in one transaction on one server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from titan_nb.chat.postgres.connection import Vector, only_row
from titan_nb.chat.postgres.schema import NUMBERS_END
from titan_nb.chat.postgres.vectors import copy_rows, from_binary, to_binary
from titan_nb.chat.postgres.where import as_facts
from titan_nb.chat.records import ChatStats
from titan_nb.chat.store import Batch, Change, StoredItem, refuse_mixture
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    from psycopg import Cursor

__all__ = ["Chat", "change_item", "drop_items", "insert", "keep_free", "read_chats", "read_items"]

_COPIED_ROWS = 8192
# Of the float4 numbers, and of what pgvector puts before them.
_NUMBER_BYTES, _VECTOR_BYTES = 4, 8


class Chat(NamedTuple):
    """A chat on a server: its id, when it was made, and what it holds."""

    id: str
    made: datetime
    stats: ChatStats


def insert(cursor: Cursor[Any], chat_id: str, batch: Batch) -> list[int]:
    """Store a batch and return the numbers of its rows.

    Raises:
        ChatError: If the chat has another dimension or encoder.
    """
    count, dimension = batch.rows.shape
    cursor.execute(
        "INSERT INTO titan_chat AS held (id, dimension, encoder, rows, made, last_added) "
        "VALUES (%s, %s, %s, %s, clock_timestamp(), clock_timestamp()) ON CONFLICT (id) DO UPDATE SET "
        "rows = held.rows + excluded.rows, last_added = excluded.last_added, "
        "encoder = coalesce(held.encoder, excluded.encoder) RETURNING number, dimension, encoder, last_added",
        [chat_id, dimension, batch.encoder, count],
    )
    number, held_dimension, encoder, last_added = only_row(cursor)
    held = ChatStats(0, 0, held_dimension, last_added, encoder)
    refuse_mixture({chat_id: held}, chat_id, dimension, batch.encoder, "row 0")
    ids: Sequence[int] | None = batch.ids
    if ids is None:
        drawn = cursor.execute("SELECT nextval('titan_number') FROM generate_series(1, %s)", [count])
        ids = [one for (one,) in drawn]
    for first in range(0, count, _COPIED_ROWS):
        part = slice(first, first + _COPIED_ROWS)
        metadata = batch.metadata[part]
        with cursor.copy(
            "COPY titan_item (id, chat, time, text, metadata, facts, embedding) FROM STDIN (FORMAT BINARY)"
        ) as copy:
            for data in copy_rows(
                ids[part],
                number,
                batch.times[part],
                batch.texts[part],
                metadata,
                map(as_facts, metadata),
                to_binary(batch.rows[part]),
            ):
                copy.write(data)
    return [*ids]


def keep_free(cursor: Cursor[Any], ids: Sequence[int], place: int, servers: int) -> None:
    """Keep the server from giving these numbers to other items, now or later.

    Args:
        cursor: A transaction that writes alone.
        ids: The numbers that a user brings.
        place: The number of this server.
        servers: How many servers there are.

    Raises:
        ChatError: If one is taken.
    """
    taken = cursor.execute("SELECT id FROM titan_item WHERE id = ANY(%s) ORDER BY id LIMIT 1", [[*ids]])
    found = taken.fetchone()
    if found is not None:
        raise ChatError(
            f"id {found[0]} is taken: forget that item first, change it with update(), or leave ids out"
        )
    # Only numbers that this server would give itself one day.
    last = max((one for one in ids if one % servers == place and one < NUMBERS_END), default=None)
    if last is not None:
        cursor.execute(
            "SELECT setval('titan_number', %s) FROM titan_number WHERE last_value <= %s", [last, last]
        )


def read_chats(cursor: Cursor[Any]) -> list[Chat]:
    """Return what each chat on this server holds."""
    rows = cursor.execute("SELECT id, made, rows, dimension, last_added, encoder FROM titan_chat")
    return [
        Chat(
            name, made, ChatStats(count, count * (_NUMBER_BYTES * size + _VECTOR_BYTES), size, added, encoder)
        )
        for name, made, count, size, added, encoder in rows
    ]


def read_items(
    cursor: Cursor[Any], clause: str, parameters: Sequence[Any], *, embeddings: bool
) -> list[StoredItem]:
    """Return the items for which ``clause`` on ``item`` holds; it may order and limit them."""
    rows = cursor.execute(
        "SELECT item.id, chat.id, item.text, item.metadata, item.time, "  # noqa: S608
        f"{'item.embedding' if embeddings else 'NULL'}, chat.dimension "
        f"FROM titan_item AS item JOIN titan_chat AS chat ON chat.number = item.chat WHERE {clause}",
        parameters,
    )
    return [
        StoredItem(number, chat, text, metadata, time, None if row is None else from_binary([row], size)[0])
        for number, chat, text, metadata, time, row, size in rows
    ]


def change_item(cursor: Cursor[Any], number: int, change: Change) -> bool:
    """Change one item, and say whether it is on this server.

    Raises:
        ChatError: If the new row does not fit its chat.
    """
    # The chat first, as all writers do it, so that no two of them wait for each other.
    chat = cursor.execute(
        "SELECT chat.number, chat.id, chat.dimension, chat.last_added, chat.encoder FROM titan_chat AS chat "
        "WHERE chat.number = (SELECT chat FROM titan_item WHERE id = %s) FOR UPDATE",
        [number],
    ).fetchone()
    if chat is None:
        return False
    columns: dict[str, Any] = {}
    if "text" in change.fields:
        columns["text = %s"] = change.text
    if "metadata" in change.fields:
        columns["metadata = %s"] = change.metadata
        columns["facts = %s::jsonb"] = as_facts(change.metadata)
    if change.row is not None:
        held = ChatStats(0, 0, chat[2], chat[3], chat[4])
        refuse_mixture({chat[1]: held}, chat[1], len(change.row), change.encoder, "the embedding")
        columns["embedding = %s::vector"] = Vector(to_binary(change.row[None, :])[0])
        cursor.execute(
            "UPDATE titan_chat SET encoder = coalesce(encoder, %s) WHERE number = %s",
            [change.encoder, chat[0]],
        )
    changed = cursor.execute(
        f"UPDATE titan_item SET {', '.join(columns)} WHERE id = %s",  # noqa: S608
        [*columns.values(), number],
    ).rowcount
    if changed and "row" in change.fields:
        cursor.execute("UPDATE titan_memory SET dropped_rows = dropped_rows + 1")
    return changed == 1


def drop_items(cursor: Cursor[Any], clause: str, parameters: Sequence[Any]) -> int:
    """Drop the items for which ``clause`` holds, and the chats that are then empty; return how many."""
    cursor.execute(
        "SELECT FROM titan_chat WHERE number IN "  # noqa: S608
        f"(SELECT chat FROM titan_item AS item WHERE {clause}) ORDER BY number FOR UPDATE",
        parameters,
    )
    dropped = cursor.execute(
        f"WITH gone AS (DELETE FROM titan_item AS item WHERE {clause} RETURNING chat) "  # noqa: S608
        "SELECT chat, count(*) FROM gone GROUP BY chat",
        parameters,
    ).fetchall()
    for chat, count in dropped:
        cursor.execute("UPDATE titan_chat SET rows = rows - %s WHERE number = %s", [count, chat])
    cursor.execute(
        "DELETE FROM titan_chat WHERE number = ANY(%s) AND rows = 0", [[chat for chat, _ in dropped]]
    )
    total: int = sum(count for _, count in dropped)
    cursor.execute("UPDATE titan_memory SET dropped_rows = dropped_rows + %s", [total])
    return total
