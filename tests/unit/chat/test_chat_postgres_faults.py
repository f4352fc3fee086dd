"""Servers that are down, lost, hung or killed, and users who press Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import psycopg
import pytest

from tests.fakes.postgres import PASSWORD, PostgresServer
from titan_nb.chat.postgres import PostgresStore, connection, contents
from titan_nb.chat.postgres.connection import Server
from titan_nb.chat.postgres.schema import LOCK
from titan_nb.chat.store import Batch, Change, Selection
from titan_nb.errors import ChatError

EVERYTHING = Selection()
Servers = tuple[PostgresServer, PostgresServer]


@pytest.fixture(autouse=True)
def _servers_are_back(postgres_servers: Servers) -> Iterator[None]:
    yield
    for server in postgres_servers:
        if server.is_down:
            server.start()


def batch(count: int, ids: list[int] | None = None) -> Batch:
    table = np.random.default_rng(count).normal(size=(count, 8))
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return Batch(table.astype(np.float32), ["text"] * count, [None] * count, [0.0] * count, ids)


def chat_on(store: PostgresStore, place: int) -> str:
    members = store._members
    wanted = next(server for server in members.servers if ("/tmp" in server.name) == (place == 0))
    return next(name for name in map(str, range(100)) if members.of(name) is wanted)


def numbers(store: PostgresStore) -> list[int]:
    return [item.id for item in store.items(EVERYTHING)]


@contextmanager
def refusal_names(server: PostgresServer, words: str) -> Iterator[None]:
    with pytest.raises(ChatError, match=words) as caught:
        yield
    assert str(server.port) in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert PASSWORD not in str(error)
        error = error.__cause__ or error.__context__


USES: dict[str, Callable[[PostgresStore, str], object]] = {
    "add": lambda store, chat: store.add(chat, batch(3)),
    "add with numbers": lambda store, chat: store.add(chat, batch(3, [70, 71, 72])),
    "search": lambda store, chat: store.search(batch(2).rows, 3, EVERYTHING),
    "search a chat": lambda store, chat: store.search(batch(2).rows, 3, Selection(chat)),
    "get": lambda store, chat: store.get([0, 1]),
    "items": lambda store, chat: [*store.items(EVERYTHING)],
    "update": lambda store, chat: store.update(999, Change(frozenset({"text"}), text="x")),
    "forget": lambda store, chat: store.forget(EVERYTHING),
    "chats": lambda store, chat: store.chats(),
    "tiers": lambda store, chat: store.tiers(),
    "compact": lambda store, chat: store.compact(),
    "create_index": lambda store, chat: store.create_index(),
}


@pytest.mark.parametrize("killed", [False, True])
def test_a_server_that_is_down_is_named_and_nothing_is_lost(
    postgres_servers: Servers, urls: list[str], store: PostgresStore, killed: bool
) -> None:
    there, lost = chat_on(store, 0), chat_on(store, 1)
    ids = [*store.add(there, batch(5)), *store.add(lost, batch(5))]
    server = postgres_servers[1]
    server.kill() if killed else server.stop()
    for use in USES.values():
        with refusal_names(
            server, r"^127\.0\.0\.1:\d+/chat cannot be reached \(.*\): see that the server runs"
        ):
            use(store, lost)
    with refusal_names(server, "cannot be reached"):
        PostgresStore(urls)
    # Chats on the other server can be used meanwhile.
    ids += store.add(there, batch(2))
    assert len(store.search(batch(1).rows, 99, Selection(there)).found[0]) == 7
    server.start()
    assert numbers(store) == sorted(ids)
    again = PostgresStore(urls)
    assert numbers(again) == sorted(ids)
    again.close()


def test_old_connections_are_made_anew(postgres_servers: Servers, store: PostgresStore) -> None:
    ids = store.add("chat", batch(3))
    for server in postgres_servers:
        server.kill()
        server.start()
    for use in (USES["search"], USES["get"], USES["chats"]):
        use(store, "chat")
    ids += store.add("chat", batch(2))
    assert numbers(store) == sorted(ids)


def test_connections_that_the_server_ended_are_made_anew(urls: list[str], store: PostgresStore) -> None:
    ids = store.add("chat", batch(3))
    for url in urls:
        with psycopg.connect(url, autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE application_name = 'titan_nb' AND datname = current_database()"
            )
    ids += store.add("chat", batch(2))
    assert numbers(store) == sorted(ids)


@pytest.mark.parametrize("ended", ["57P01", "57P02", "57P03", "25P03"])
def test_a_server_that_says_goodbye_is_lost_before_its_connection_is(ended: str) -> None:
    error = psycopg.errors.lookup(ended)("goodbye")
    assert connection._is_lost(error, SimpleNamespace(closed=False))
    assert not connection._is_lost(psycopg.errors.UniqueViolation(), SimpleNamespace(closed=False))


def test_a_search_that_the_server_ends_is_told(urls: list[str], store: PostgresStore) -> None:
    def end() -> None:
        while not waiting(urls[1]):
            time.sleep(0.02)
        with psycopg.connect(urls[1], autocommit=True) as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            )

    with slow(urls[1]):
        thread = threading.Thread(target=end)
        thread.start()
        with pytest.raises(ChatError, match=r"was lost in the middle .*terminating connection"):
            store.search(batch(1).rows, 3, EVERYTHING)
        thread.join(60)
    assert store.search(batch(1).rows, 3, EVERYTHING).found == [[]]


@pytest.mark.parametrize("step", ["before the rows", "in the middle of the rows", "before the commit"])
def test_a_server_lost_in_the_middle_of_a_batch_keeps_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, postgres_servers: Servers, store: PostgresStore, step: str
) -> None:
    chat, server = chat_on(store, 1), postgres_servers[1]
    ids = store.add(chat, batch(4))
    whole = contents.copy_rows

    def lost(*arguments: Any) -> Iterator[bytes]:
        parts = [*whole(*arguments)]
        if step == "in the middle of the rows":
            yield parts[0][: len(parts[0]) // 2]
            parts[0] = parts[0][len(parts[0]) // 2 :]
        elif step == "before the commit":
            yield from parts
            return
        server.kill()
        yield from parts

    def insert(*arguments: Any) -> list[int]:
        given = contents.insert(*arguments)
        if step == "before the commit":
            server.kill()
        return given

    monkeypatch.setattr(contents, "copy_rows", lost)
    monkeypatch.setattr("titan_nb.chat.postgres.store.insert", insert)
    words = (
        "was lost while it stored what was given .*: it holds all of it or nothing"
        if step == "before the commit"
        else "was lost in the middle .*: nothing of this was done there"
    )
    with refusal_names(server, words):
        store.add(chat, batch(2000))
    monkeypatch.undo()
    server.start()
    assert numbers(store) == ids
    assert store.chats()[chat].rows == 4


def test_what_was_acknowledged_before_a_kill_is_there(
    postgres_servers: Servers, store: PostgresStore
) -> None:
    """Batches go in from a thread while the server is killed again and again."""
    chat, server = chat_on(store, 1), postgres_servers[1]
    acknowledged: list[int] = []
    stop = threading.Event()
    failed: list[BaseException] = []

    def work() -> None:
        while not stop.is_set():
            try:
                acknowledged.extend(store.add(chat, batch(7)))
            except ChatError:
                time.sleep(0.02)
            except BaseException as error:
                failed.append(error)
                return

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(4):
        before = len(acknowledged)
        while len(acknowledged) < before + 70 and thread.is_alive():
            time.sleep(0.005)
        server.kill()
        server.start()
    stop.set()
    thread.join(60)
    assert not failed
    held = numbers(store)
    assert {*acknowledged} <= {*held}
    assert len(held) % 7 == 0
    assert store.chats()[chat].rows == len(held)


@contextmanager
def slow(url: str) -> Iterator[None]:
    """Let everything that touches items on a server wait."""
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE titan_item IN ACCESS EXCLUSIVE MODE")
        yield
        other.rollback()


def waiting(url: str) -> int:
    with psycopg.connect(url) as other:
        row = other.execute(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_a_statement_that_takes_too_long_is_given_up(urls: list[str]) -> None:
    store = PostgresStore(urls, timeout_seconds=0.3)
    ids = store.add("chat", batch(3))
    with slow(urls[1]), pytest.raises(ChatError, match=r"took longer than 0\.3 s .*longer timeout_seconds"):
        store.search(batch(1).rows, 3, EVERYTHING)
    assert numbers(store) == ids
    store.close()


def test_a_writer_that_waits_too_long_for_another_gives_up(urls: list[str]) -> None:
    store = PostgresStore(urls, timeout_seconds=0.3)
    ids = store.add("chat", batch(3))
    with psycopg.connect(urls[0]) as one, psycopg.connect(urls[1]) as other:
        for connected in (one, other):
            connected.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        with pytest.raises(ChatError, match=r"took longer than 0\.3 s"):
            store.add("chat", batch(2))
        assert numbers(store) == ids
    assert len(store.add("chat", batch(2))) == 2
    store.close()


def processes_of(server: PostgresServer) -> list[psutil.Process]:
    found = []
    for process in server.processes()[1:]:
        with suppress(psutil.NoSuchProcess):
            found += [process] if "127.0.0.1" in " ".join(process.cmdline()) else []
    return found


def test_a_server_that_hangs_is_given_up(
    monkeypatch: pytest.MonkeyPatch, postgres_servers: Servers, urls: list[str]
) -> None:
    # Sooner than the server itself would end the statement, which it cannot any more.
    monkeypatch.setattr(connection, "_GRACE_SECONDS", -1.5)
    store = PostgresStore(urls, timeout_seconds=3)
    server = postgres_servers[1]
    hung: list[psutil.Process] = []

    def hang() -> None:
        while not waiting(urls[1]):
            time.sleep(0.02)
        for process in processes_of(server):
            process.suspend()
            hung.append(process)

    try:
        with slow(urls[1].replace(f":{PASSWORD}@127.0.0.1:{server.port}", "@", 1) + socket_of(server)):
            thread = threading.Thread(target=hang)
            thread.start()
            with refusal_names(server, r"was lost in the middle \(it does not answer\)"):
                store.search(batch(1).rows, 3, EVERYTHING)
            thread.join(60)
    finally:
        for process in hung:
            with suppress(psutil.NoSuchProcess):
                process.resume()
    assert hung
    assert store.search(batch(1).rows, 3, EVERYTHING).found == [[]]
    store.close()


def socket_of(server: PostgresServer) -> str:
    return f"&host={server.folder}&port={server.port}"


def test_a_connection_that_hangs_is_replaced(postgres_servers: Servers, store: PostgresStore) -> None:
    store.search(batch(1).rows, 3, EVERYTHING)
    for member in store._members.servers:
        for idle in member._idle:
            idle.limit_seconds = 0.2
    hung = processes_of(postgres_servers[1])
    assert hung
    for process in hung:
        process.suspend()
    try:
        assert store.search(batch(1).rows, 3, EVERYTHING).found == [[]]
    finally:
        for process in hung:
            with suppress(psutil.NoSuchProcess):
                process.resume()


@pytest.mark.parametrize("servers", [1, 2])
def test_ctrl_c_ends_a_search_and_its_statements(urls: list[str], servers: int) -> None:
    store = PostgresStore(urls[:servers])
    ids = store.add("chat", batch(3))

    def press() -> None:
        deadline = time.monotonic() + 30
        while not waiting(urls[0]) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    with slow(urls[0]):
        thread = threading.Thread(target=press)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            store.search(batch(1).rows, 3, EVERYTHING)
        thread.join(60)
        assert waiting(urls[0]) == 0
    assert [match.item.id for match in store.search(batch(3).rows, 1, EVERYTHING).found[0]] == ids[:1]
    store.close()


def test_ctrl_c_in_a_batch_leaves_nothing_of_it(
    monkeypatch: pytest.MonkeyPatch, store: PostgresStore
) -> None:
    ids = store.add("chat", batch(2))
    whole = contents.copy_rows

    def pressed(*arguments: Any) -> Iterator[bytes]:
        yield next(iter(whole(*arguments)))[:100]
        raise KeyboardInterrupt

    monkeypatch.setattr(contents, "copy_rows", pressed)
    with pytest.raises(KeyboardInterrupt):
        store.add("chat", batch(50))
    monkeypatch.undo()
    assert numbers(store) == ids
    assert numbers(store) + store.add("chat", batch(1)) == numbers(store)


def test_a_lost_server_at_the_end_of_a_large_forget_is_told(
    monkeypatch: pytest.MonkeyPatch, urls: list[str], store: PostgresStore
) -> None:
    for name in map(str, range(12)):
        store.add(name, batch(2))
    first = store._members.servers[0]
    url = urls[0] if "/tmp" in first.name else urls[1]
    with psycopg.connect(url, autocommit=True) as other:
        # Refused when it is committed: the second server, which is asked to commit first, has done it then.
        other.execute(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'"
        )
        other.execute(
            "CREATE CONSTRAINT TRIGGER no AFTER DELETE ON titan_item DEFERRABLE INITIALLY DEFERRED "
            "FOR EACH ROW EXECUTE FUNCTION no()"
        )
        with pytest.raises(
            ChatError, match=r"refused \(no\).*; on other servers it may be done: forget the same again"
        ):
            store.forget(EVERYTHING)
        other.execute("DROP TRIGGER no ON titan_item")
    assert 0 < store.forget(EVERYTHING) < 24
    assert store.chats() == {}


def test_a_child_process_uses_connections_of_its_own(store: PostgresStore) -> None:
    ids = store.add("chat", batch(3))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if numbers(store) == ids and len(store.add("chat", batch(2))) == 2 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert len(numbers(store)) == 5


def test_connections_are_closed_with_their_store(postgres_servers: Servers, urls: list[str]) -> None:
    store = PostgresStore(urls[:1])
    threads = [threading.Thread(target=numbers, args=(store,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (server,) = store._members.servers
    assert 1 <= len(server._idle) <= 4
    idle = [*server._idle]
    del store, server
    assert all(one.closed for one in idle)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:sec%ret@host/x",
        "postgresql://me:secret@[host/x",
        "host=a password=secret secret",
    ],
)
def test_an_address_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(
        ChatError, match="an address of a server cannot be read: write postgresql://"
    ) as caught:
        Server(url, 1)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://me:secret@host:6543/base", "host:6543/base"),
        ("postgresql://me@/base?host=/run/pg", "/run/pg:5432/base"),
        ("postgresql://me:secret@host", "host:5432/me"),
    ],
)
def test_a_server_is_named_without_password(monkeypatch: pytest.MonkeyPatch, url: str, name: str) -> None:
    for variable in ("PGHOST", "PGPORT", "PGDATABASE"):
        monkeypatch.delenv(variable, raising=False)
    server = Server(url, 1)
    assert server.name == name
    assert repr(server) == f"<Server {name}>"


def test_a_wrong_password_is_told_without_it(postgres_servers: Servers) -> None:
    server = postgres_servers[1]
    with pytest.raises(ChatError, match=r"cannot be reached \(.*password authentication failed") as caught:
        PostgresStore([server.url_with_password("postgres", password="wr0ng-w0rd")])
    assert "wr0ng-w0rd" not in str(caught.value) + repr(caught.value.__cause__)


def test_nobody_answers_at_a_port_that_is_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(ChatError, match=rf"^127\.0\.0\.1:{port}/x cannot be reached"):
            PostgresStore([f"postgresql://me@127.0.0.1:{port}/x"])


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ChatError, match=re.escape("pip install 'titan_nb[postgres]'")):
        Server("postgresql://me@host/x", 1)
