"""Which rows of each server a search looks at, and the refusal of a query that fits no chat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from titan_nb.chat.postgres.connection import only_row
from titan_nb.chat.postgres.search import Scope
from titan_nb.chat.postgres.where import selected
from titan_nb.chat.records import ChatStats
from titan_nb.chat.store import Selection, refuse_mixture
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    from psycopg import Cursor

__all__ = ["scopes_of"]

_FITTING = "(encoder IS NULL OR %s::text IS NULL OR encoder = %s)"


def scopes_of(
    cursors: Sequence[Cursor[Any]], selection: Selection, dimension: int, encoder: str | None
) -> list[Scope]:
    """Return what to look at, one per server.

    Raises:
        ChatError: If there are chats, and a query of this dimension and encoder fits none of them.
    """
    if not cursors:
        return []
    clause, parameters = selected(selection)
    if selection.chat_id is not None:
        number = _number(cursors[0], selection.chat_id, dimension, encoder)
        return [Scope(f"item.chat = %s AND {clause}", [number, *parameters])]
    found = [_fits(cursor, dimension, encoder) for cursor in cursors]
    if not any(some for some, _ in found) and any(some is False for some, _ in found):
        raise _fits_none(cursors, dimension, encoder)
    # Where all chats of this dimension fit, a look at the row is enough: that leaves the index of the fast
    # search open to the planner.
    size = f"vector_dims(item.embedding) = {dimension}"
    some = f"{size} AND item.chat IN (SELECT number FROM titan_chat WHERE {_FITTING})"  # noqa: S608
    return [
        Scope(f"{size} AND {clause}", parameters)
        if all_fit
        else Scope(f"{some} AND {clause}", [encoder, encoder, *parameters])
        for _, all_fit in found
    ]


def _number(cursor: Cursor[Any], chat_id: str, dimension: int, encoder: str | None) -> int:
    """Return the number of a chat on its server; -1 if there is none."""
    row = cursor.execute(
        "SELECT number, dimension, last_added, encoder FROM titan_chat WHERE id = %s", [chat_id]
    ).fetchone()
    if row is None:
        return -1
    held = ChatStats(0, 0, row[1], row[2], row[3])
    refuse_mixture({chat_id: held}, chat_id, dimension, encoder, "the query")
    return int(row[0])


def _fits(cursor: Cursor[Any], dimension: int, encoder: str | None) -> tuple[bool | None, bool]:
    """Say whether a chat of this dimension fits, None where there are no chats at all, and whether all do."""
    cursor.execute(
        f"SELECT bool_or(dimension = %s AND {_FITTING}), "  # noqa: S608
        f"coalesce(bool_and({_FITTING}) FILTER (WHERE dimension = %s), true) FROM titan_chat",
        [dimension, encoder, encoder, encoder, encoder, dimension],
    )
    some, all_fit = only_row(cursor)
    return some, bool(all_fit)


def _fits_none(cursors: Sequence[Cursor[Any]], dimension: int, encoder: str | None) -> ChatError:
    sizes = {
        size for cursor in cursors for (size,) in cursor.execute("SELECT DISTINCT dimension FROM titan_chat")
    }
    if dimension not in sizes:
        return ChatError(
            f"the query has {dimension} numbers, and no chat holds rows of so many (but of "
            f"{', '.join(map(str, sorted(sizes)[:5]))}): use the model that made the rows"
        )
    return ChatError(
        f"the query comes from the encoder {encoder!r}, and no chat with rows of {dimension} numbers does: "
        "use the encoder that made the rows"
    )
