"""The servers of a memory: recorded in each of them, so that none is searched without the others."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from titan_nb.chat.postgres.connection import Server, only_row
from titan_nb.chat.postgres.ring import Ring
from titan_nb.chat.postgres.schema import LOCK, prepare
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    from psycopg import Cursor

__all__ = ["Member", "Members", "find_members", "number_items", "one_memory"]

_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_WRITE = f"BEGIN; SELECT pg_advisory_xact_lock_shared({LOCK})"
_ALONE = f"BEGIN; SELECT pg_advisory_xact_lock({LOCK})"
_STATE = "SELECT memory, ring, addresses, moving FROM titan_memory"


class Member(NamedTuple):
    """One server, and what its database says of the memory that it belongs to.

    Attributes:
        server: The server.
        name: What its database calls itself, for ever and from wherever it is reached.
        memory: Which memory it belongs to; None while that is not recorded.
        ring: The names of all servers of that memory, in the order of their numbers.
        addresses: Where they were when that was recorded.
        moving: Whether chats are being moved between them.
    """

    server: Server
    name: str
    memory: str | None
    ring: list[str] | None
    addresses: list[str] | None
    moving: bool


class Members:
    """The servers of one memory, found to agree on who they are.

    Args:
        urls: All of them, in any order.
        timeout_seconds: The most that one statement may take.

    Raises:
        ChatError: If one cannot be reached or used, or the list is not that of the memory.
    """

    def __init__(self, urls: Sequence[str], timeout_seconds: float) -> None:
        members = find_members(urls, timeout_seconds)
        try:
            by_name = {member.name: member.server for member in members}
            self._ring_names = _agreed(members)
        except BaseException:
            for member in members:
                member.server.close()
            raise
        self.servers = [by_name[name] for name in self._ring_names]
        self._ring = Ring(self._ring_names)
        self._by_name = by_name

    def of(self, chat_id: str) -> Server:
        """Return the server that keeps this chat."""
        return self._by_name[self._ring.owner(chat_id)]

    @contextmanager
    def read_all(self, servers: Sequence[Server]) -> Iterator[list[Cursor[Any]]]:
        """Read from servers, from each all at one moment; the cursors answer in binary form."""
        with ExitStack() as stack:
            yield [stack.enter_context(self._transaction(server, _READ)) for server in servers]

    @contextmanager
    def write_all(self, servers: Sequence[Server], *, alone: bool = False) -> Iterator[list[Cursor[Any]]]:
        """Write to servers; ``alone``, while no other writes to any of them.

        Always name them in the order they have here, so that no two writers wait for each other.
        """
        begin = _ALONE if alone else _WRITE
        with ExitStack() as stack:
            yield [stack.enter_context(self._transaction(server, begin)) for server in servers]

    def close(self) -> None:
        """Close all connections."""
        for server in self.servers:
            server.close()

    @contextmanager
    def _transaction(self, server: Server, begin: str) -> Iterator[Cursor[Any]]:
        with server.transaction(f"{begin}; {_STATE}") as cursor:
            _, ring, _, moving = only_row(cursor)
            if ring != self._ring_names or moving:
                raise ChatError(
                    f"{server.name}: the list of servers was changed since this memory was opened: open it "
                    "again with the new list"
                )
            yield cursor.connection.cursor(binary=True)


def find_members(urls: Sequence[str], timeout_seconds: float) -> list[Member]:
    """Connect to each address, make the tables where there are none, and read what they say.

    Raises:
        ChatError: If one cannot be reached or used, or two lead to the same database.
    """
    if isinstance(urls, str) or not urls:
        raise ChatError("the servers of a memory are a list of addresses: give at least one postgresql://...")
    servers: list[Server] = []
    members: dict[str, Member] = {}
    try:
        for url in urls:
            servers.append(Server(url, timeout_seconds))
            with servers[-1].transaction("BEGIN") as cursor:
                prepare(cursor, servers[-1].name)
                cursor.execute(f"SELECT server, state.* FROM titan_memory, ({_STATE}) AS state")  # noqa: S608
                member = Member(servers[-1], *only_row(cursor))
            twin = members.setdefault(member.name, member)
            if twin is not member:
                raise ChatError(
                    f"{twin.server.name} and {member.server.name} are the same database: name it once"
                )
    except BaseException:
        for server in servers:
            server.close()
        raise
    return [*members.values()]


def number_items(cursor: Cursor[Any], place: int, servers: int, above: int) -> None:
    """Let the server number items above ``above`` so that no two of ``servers`` give the same number."""
    first = (above + 1) // servers * servers + place
    first += servers * (first <= above)
    cursor.execute(f"ALTER SEQUENCE titan_number INCREMENT BY {servers} RESTART WITH {first}")


def one_memory(members: Sequence[Member]) -> str | None:
    """Return the memory that they belong to; None where they are all new.

    Raises:
        ChatError: If there are two.
    """
    known = [member for member in members if member.memory]
    for member in known[1:]:
        if member.memory != known[0].memory:
            raise ChatError(
                f"{known[0].server.name} and {member.server.name} hold two memories, which cannot become "
                "one: open each on its own, or give an empty database"
            )
    return known[0].memory if known else None


def _agreed(members: Sequence[Member]) -> list[str]:
    """Return the recorded list of servers, or record one where the databases are new."""
    addresses = {member.name: member.server.name for member in members}
    # All processes in the same order: the first to record decides, also where two open new databases at once.
    in_order = sorted(members, key=lambda member: member.name)
    known = next((member for member in in_order if member.ring), None)
    memory = one_memory(members) or uuid.uuid4().hex
    ring = [*addresses] if known is None or known.ring is None else known.ring
    for member in in_order:
        _refuse_other(member, addresses)
    for member in in_order:
        if member.ring:
            continue
        with member.server.transaction(f"{_ALONE}; {_STATE}") as cursor:
            now = Member(member.server, member.name, *only_row(cursor))
            if now.ring:
                memory, ring = now.memory or memory, now.ring
                _refuse_other(now, addresses)
                continue
            cursor.execute(
                "UPDATE titan_memory SET memory = %s, ring = %s, addresses = %s",
                [memory, ring, [addresses[name] for name in ring]],
            )
            number_items(cursor, ring.index(member.name), len(ring), -1)
    return ring


def _refuse_other(member: Member, given: Mapping[str, str]) -> None:
    where = member.server.name
    if member.moving:
        raise ChatError(
            f"{where}: chats are being moved between servers, or that was broken off: "
            "titan_nb.chat.postgres.rebalance(urls) completes it"
        )
    recorded = dict(zip(member.ring or (), member.addresses or (), strict=True))
    if not recorded or recorded.keys() == given.keys():
        return
    missing = [address for name, address in recorded.items() if name not in given]
    more = [address for name, address in given.items() if name not in recorded]
    problem = f"{', '.join(missing)} is missing from the list" if missing else f"{', '.join(more)} is new"
    raise ChatError(
        f"{where} holds a memory on {len(recorded)} server{'s' * (len(recorded) != 1)} "
        f"({', '.join(recorded.values())}), and {problem}: open it with all of them, or let "
        "titan_nb.chat.postgres.rebalance(urls) move its chats"
    )
