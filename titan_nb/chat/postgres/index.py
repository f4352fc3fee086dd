"""The index of the fast search: HNSW on rows in half precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from titan_nb.chat.postgres.connection import Server, only_row
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    from psycopg import Cursor

__all__ = ["build_index", "has_index"]

_LEAST_VERSION = (0, 8)
_LARGEST_DIMENSION = 4000


def has_index(cursor: Cursor[Any], dimension: int) -> bool:
    """Say whether rows of this dimension are indexed on this server."""
    cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [_name(dimension)])
    return bool(only_row(cursor)[0])


def build_index(server: Server) -> None:
    """Build an index for each dimension that has none yet.

    Raises:
        ChatError: If pgvector is too old for it, or a dimension too large.
    """
    with server.outside() as cursor:
        row = cursor.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
        version = row[0] if row else "0"
        if tuple(int(part) for part in version.split(".")[:2]) < _LEAST_VERSION:
            raise ChatError(
                f"{server.name} has pgvector {version}, and the index needs 0.8: update it there, then let "
                "an administrator say ALTER EXTENSION vector UPDATE"
            )
        dimensions = [size for (size,) in cursor.execute("SELECT DISTINCT dimension FROM titan_chat")]
        for dimension in dimensions:
            if dimension > _LARGEST_DIMENSION:
                raise ChatError(
                    f"rows of {dimension} numbers cannot be indexed: the most is {_LARGEST_DIMENSION}; "
                    "search them exactly, or reduce them first"
                )
        for dimension in dimensions:
            cursor.execute(
                f"CREATE INDEX IF NOT EXISTS {_name(dimension)} ON titan_item USING hnsw "
                f"((embedding::halfvec({dimension})) halfvec_ip_ops) "
                f"WHERE vector_dims(embedding) = {dimension}"
            )


def _name(dimension: int) -> str:
    return f"titan_item_fast_{dimension}"
