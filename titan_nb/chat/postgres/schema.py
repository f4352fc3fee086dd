"""The tables of a chat memory in a database, and whether a server can hold them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from titan_nb.chat.postgres.connection import only_row
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    from psycopg import Cursor

__all__ = ["FORMAT", "LOCK", "NUMBERS_END", "prepare"]

FORMAT = 1
"""The version of the tables; a database of another is refused."""

LOCK = 0x7469_7461_6E
"""The advisory lock that orders writers: shared by those that let the server number items, exclusive for
those that bring numbers or change the list of servers."""

NUMBERS_END = 2**62
"""Servers number items below this; what is above is free for numbers that users bring."""

_TABLES = f"""
CREATE TABLE titan_memory (
    format integer NOT NULL,
    server text NOT NULL,
    memory text,
    ring text[],
    addresses text[],
    moving boolean NOT NULL DEFAULT false,
    dropped_rows bigint NOT NULL DEFAULT 0
);
CREATE TABLE titan_chat (
    number bigserial PRIMARY KEY,
    id text COLLATE "C" NOT NULL UNIQUE,
    dimension integer NOT NULL,
    encoder text,
    rows bigint NOT NULL,
    made timestamptz NOT NULL,
    last_added timestamptz NOT NULL
);
CREATE TABLE titan_item (
    id bigint PRIMARY KEY,
    chat bigint NOT NULL,
    time double precision NOT NULL,
    text text,
    metadata text,
    facts jsonb,
    embedding vector NOT NULL
);
ALTER TABLE titan_item ALTER COLUMN embedding SET STORAGE MAIN;
CREATE INDEX titan_item_chat ON titan_item (chat, id);
CREATE SEQUENCE titan_number MINVALUE 0 MAXVALUE {NUMBERS_END - 1} START 0;
"""
# MAIN: long texts leave the page before rows do, which each exact search reads.


def prepare(cursor: Cursor[Any], server: str) -> None:
    """Make the tables in the transaction of ``cursor`` where there are none.

    Raises:
        ChatError: If the server lacks pgvector, or the tables are of another format.
    """
    import psycopg

    (encoding,) = only_row(cursor.execute("SHOW server_encoding"))
    if encoding != "UTF8":
        raise ChatError(
            f"{server}: the database keeps text as {encoding}, which cannot hold all texts: make one with "
            "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
        )
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    if not _holds(cursor, "SELECT 1 FROM pg_extension WHERE extname = 'vector'"):
        try:
            cursor.execute("CREATE EXTENSION vector")
        except psycopg.errors.InsufficientPrivilege as error:
            raise ChatError(
                f"{server}: this user may not switch on pgvector: let an administrator of the database say "
                "CREATE EXTENSION vector"
            ) from error
        except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
            raise ChatError(
                f"{server} has no pgvector: install it on that machine (the package postgresql-NN-pgvector, "
                "or https://github.com/pgvector/pgvector), then open the memory again"
            ) from error
    if not _holds(cursor, "SELECT 1 WHERE to_regclass('titan_memory') IS NOT NULL"):
        cursor.execute(_TABLES)
        cursor.execute(
            "INSERT INTO titan_memory (format, server) VALUES (%s, %s)", [FORMAT, uuid.uuid4().hex]
        )
    (found,) = only_row(cursor.execute("SELECT format FROM titan_memory"))
    if found != FORMAT:
        raise ChatError(
            f"{server} holds a chat memory of format {found}, and this titan_nb knows format {FORMAT}: use "
            "the version of titan_nb that wrote it, or a newer one"
        )


def _holds(cursor: Cursor[Any], query: str) -> bool:
    return cursor.execute(query).fetchone() is not None
