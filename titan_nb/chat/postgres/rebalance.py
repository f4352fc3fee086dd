"""Other servers for a memory: chats are moved to where they belong then."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from titan_nb.chat.postgres.connection import Server, only_row
from titan_nb.chat.postgres.members import Member, find_members, number_items, one_memory
from titan_nb.chat.postgres.ring import Ring
from titan_nb.chat.postgres.schema import LOCK, NUMBERS_END
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    from psycopg import Cursor

__all__ = ["rebalance"]

_ALONE = f"BEGIN; SELECT pg_advisory_xact_lock({LOCK})"
_COLUMNS = "time, text, metadata, facts, embedding"
_CHAT_COLUMNS = "dimension, encoder, rows, made, last_added"


def rebalance(urls: Sequence[str], *, leaving: Sequence[str] = (), timeout_seconds: float = 3600.0) -> int:
    """Keep a memory on these servers from now on, and move the chats that belong elsewhere then.

    An added server takes its share of the chats from the others; a server that leaves gives its chats to
    them. Nobody can use the memory meanwhile, and memories that are open must be opened again. If it is
    broken off, the same call completes it: a chat is dropped only where its copy is committed.

    Args:
        urls: All servers that the memory is to have.
        leaving: Servers that it has now and is to have no more.
        timeout_seconds: The most that one statement may take.

    Returns:
        How many chats were moved.

    Raises:
        ChatError: If a server cannot be reached, one that holds chats is in neither list, or one holds
            another memory.
    """
    members = find_members([*urls, *leaving], timeout_seconds)
    try:
        staying, gone = members[: len(urls)], members[len(urls) :]
        memory = _memory_of(members)
        ring = _new_ring(staying, members)
        addresses = {member.name: member.server.name for member in members}
        # Those that leave are on the list until they are empty, so that no later call can leave them out.
        everyone = [*ring, *(member.name for member in gone)]
        for member in members:
            with member.server.transaction(_ALONE) as cursor:
                cursor.execute(
                    "UPDATE titan_memory SET memory = %s, ring = %s, addresses = %s, moving = true",
                    [memory, everyone, [addresses[name] for name in everyone]],
                )
        # From here on no other writes to any of them.
        last = max(map(_last_number, members))
        servers = {member.name: member.server for member in members}
        owners = Ring(ring)
        moved = 0
        for member in members:
            with member.server.transaction("BEGIN") as cursor:
                held = cursor.execute("SELECT id FROM titan_chat ORDER BY number").fetchall()
            for (chat_id,) in held:
                owner = owners.owner(chat_id)
                if owner != member.name:
                    _move(chat_id, member.server, servers[owner])
                    moved += 1
        for member in gone:
            with member.server.transaction(_ALONE) as cursor:
                cursor.execute(
                    "UPDATE titan_memory SET memory = NULL, ring = NULL, addresses = NULL, moving = false"
                )
        for member in staying:
            with member.server.transaction(_ALONE) as cursor:
                number_items(cursor, ring.index(member.name), len(ring), last)
                cursor.execute(
                    "UPDATE titan_memory SET ring = %s, addresses = %s, moving = false",
                    [ring, [addresses[name] for name in ring]],
                )
        return moved
    finally:
        for member in members:
            member.server.close()


def _memory_of(members: Sequence[Member]) -> str:
    """Return the memory that they belong to; refuse two, none, and servers left out."""
    memory = one_memory(members)
    if memory is None:
        raise ChatError("none of these servers holds a memory yet: open them with ChatMemory([...])")
    given = {member.name for member in members}
    for member in members:
        for name, address in zip(member.ring or (), member.addresses or (), strict=True):
            if name not in given:
                raise ChatError(
                    f"{address} holds chats of this memory and is in neither list: name it in urls, or in "
                    "leaving=[...] to move its chats away"
                )
    return memory


def _new_ring(staying: Sequence[Member], members: Sequence[Member]) -> list[str]:
    """Return the names of the servers to stay, those that were there first in their old order."""
    names = [member.name for member in staying]
    known = [name for member in members for name in member.ring or ()]
    # Sorting leaves new ones in the order they are given in.
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def _last_number(member: Member) -> int:
    """Return the largest number that the server has given or holds, of those that servers give."""
    with member.server.transaction("BEGIN") as cursor:
        cursor.execute(
            "SELECT greatest((SELECT max(id) FROM titan_item WHERE id < %s), "
            "(SELECT last_value FROM titan_number WHERE is_called), -1)",
            [NUMBERS_END],
        )
        return int(only_row(cursor)[0])


def _move(chat_id: str, source: Server, target: Server) -> None:
    with ExitStack() as stack:
        # The source commits last: until then it keeps all, and the same move may be made again.
        old = stack.enter_context(source.transaction("BEGIN"))
        new = stack.enter_context(target.transaction("BEGIN"))
        _drop_chat(new, chat_id)
        old.execute(f"SELECT number, {_CHAT_COLUMNS} FROM titan_chat WHERE id = %s", [chat_id])  # noqa: S608
        number, *about = only_row(old)
        new.execute(
            f"INSERT INTO titan_chat (id, {_CHAT_COLUMNS}) "  # noqa: S608
            "VALUES (%s, %s, %s, %s, %s, %s) RETURNING number",
            [chat_id, *about],
        )
        (new_number,) = only_row(new)
        query = f"SELECT id, {new_number}::bigint, {_COLUMNS} FROM titan_item WHERE chat = {number}"  # noqa: S608
        with (
            old.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)") as rows,
            new.copy(f"COPY titan_item (id, chat, {_COLUMNS}) FROM STDIN (FORMAT BINARY)") as copy,
        ):
            for data in rows:
                copy.write(data)
        _drop_chat(old, chat_id)


def _drop_chat(cursor: Cursor[Any], chat_id: str) -> None:
    number = "(SELECT number FROM titan_chat WHERE titan_chat.id = %s)"
    cursor.execute(f"DELETE FROM titan_item WHERE chat = {number}", [chat_id])  # noqa: S608
    cursor.execute("DELETE FROM titan_chat WHERE id = %s", [chat_id])
