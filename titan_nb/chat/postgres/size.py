"""How much disk a server's tables take, and giving back what they do not need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from titan_nb.chat.postgres.connection import Server, only_row

if TYPE_CHECKING:
    from psycopg import Cursor

__all__ = ["bytes_on_disk", "vacuum"]


def bytes_on_disk(cursor: Cursor[Any]) -> int:
    """Return the bytes of the tables with their indexes and long texts."""
    cursor.execute("SELECT pg_total_relation_size('titan_item') + pg_total_relation_size('titan_chat')")
    return int(only_row(cursor)[0])


def vacuum(server: Server) -> tuple[int, int, int]:
    """Write the tables of a server anew; return their bytes before and after, and how many rows are gone."""
    with server.outside() as cursor:
        before = bytes_on_disk(cursor)
        dropped = int(only_row(cursor.execute("SELECT dropped_rows FROM titan_memory"))[0])
        cursor.execute("VACUUM (FULL, ANALYZE) titan_item")
        cursor.execute("VACUUM (FULL, ANALYZE) titan_chat")
        cursor.execute("UPDATE titan_memory SET dropped_rows = dropped_rows - %s", [dropped])
        return before, bytes_on_disk(cursor), dropped
