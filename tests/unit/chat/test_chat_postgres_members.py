"""The list of servers, recorded in each, and its change."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.fakes.postgres import PASSWORD, PostgresServer
from titan_nb.chat.postgres import PostgresStore, rebalance
from titan_nb.chat.store import Batch, Selection
from titan_nb.errors import ChatError

EVERYTHING = Selection()
Servers = tuple[PostgresServer, PostgresServer]


@pytest.fixture
def third(postgres_servers: Servers) -> str:
    return postgres_servers[0].url("chat", postgres_servers[0].new_schema())


def batch(count: int, dimension: int = 4, ids: list[int] | None = None) -> Batch:
    table = np.random.default_rng(count).normal(size=(count, dimension))
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    notes = ['{"a": "\\u0000"}', *(['{"a": 1}'] * (count - 1))]
    return Batch(table.astype(np.float32), ["ä"] * count, notes, [1.5] * count, ids)


def contents(store: PostgresStore) -> list[Any]:
    return [
        (item.id, item.chat_id, item.text, item.metadata, item.time, item.embedding.tobytes())
        for item in store.items(EVERYTHING, embeddings=True)
    ]


def execute(url: str, statement: str) -> list[Any]:
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def filled(urls: list[str], chats: int = 30) -> tuple[list[Any], dict[str, Any]]:
    # Servers get random names: of a dozen chats a server might happen to get, or to lose, none at all.
    store = PostgresStore(urls)
    for number in range(chats):
        store.add(f"chat {number}", batch(1 + number % 3, 4 + number % 2))
    store.add("chat 0", batch(1, ids=[5000]))
    held = contents(store), store.chats()
    store.close()
    return held


def test_the_same_servers_in_any_order_and_under_other_names_are_the_same_memory(
    postgres_servers: Servers, urls: list[str]
) -> None:
    held, chats = filled(urls)
    over_socket = postgres_servers[1].url("chat", re.findall(r"search_path%3D(\w+)", urls[1])[0])
    store = PostgresStore([over_socket, urls[0]])
    assert contents(store) == held
    assert store.chats() == chats
    more = store.add("new", batch(2))
    assert not {*more} & {number for number, *_ in held}
    store.close()


def test_a_list_with_one_missing_or_new_is_refused(urls: list[str], third: str) -> None:
    filled(urls)
    with pytest.raises(
        ChatError, match=r"holds a memory on 2 servers .*, and 127\.0\.0\.1:.* is missing from the list"
    ):
        PostgresStore(urls[:1])
    with pytest.raises(ChatError, match=r", and .* is new: open it with all of them, or .*rebalance\(urls\)"):
        PostgresStore([*urls, third])
    # The new one was not drawn in: it can begin a memory of its own, and that is refused too.
    PostgresStore([third]).close()
    with pytest.raises(ChatError, match="hold two memories, which cannot become one: open each"):
        PostgresStore([*urls, third])
    with pytest.raises(ChatError, match="hold two memories, which cannot become one"):
        rebalance([*urls, third])
    PostgresStore(urls).close()


def test_one_database_under_two_names_is_refused(postgres_servers: Servers) -> None:
    server = postgres_servers[0]
    name = server.new_database()
    with pytest.raises(
        ChatError, match=rf"and 127\.0\.0\.1:{server.port}/{name} are the same database: name it once"
    ):
        PostgresStore([server.url(name), server.url_with_password(name)])


@pytest.mark.parametrize("nothing", [[], "postgresql://localhost/x"])
def test_servers_are_a_list(nothing: Any) -> None:
    with pytest.raises(ChatError, match="give at least one postgresql://"):
        PostgresStore(nothing)


def test_new_servers_opened_by_many_at_once_become_one_memory(urls: list[str]) -> None:
    stores: list[PostgresStore] = []

    def work(seed: int) -> None:
        stores.append(PostgresStore(urls[::-1] if seed % 2 else urls))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(stores) == 4
    ids = [number for place, store in enumerate(stores) for number in store.add(f"chat {place}", batch(3))]
    assert len({*ids}) == 12
    assert all([*store.chats()] == [*stores[0].chats()] for store in stores)
    for store in stores:
        store.close()


def test_a_server_is_added_and_another_leaves(urls: list[str], third: str) -> None:
    held, chats = filled(urls)
    open_before = PostgresStore(urls)
    moved = rebalance([*urls, third])
    assert 3 <= moved <= 18
    assert execute(third, "SELECT count(*) FROM titan_chat") == [(moved,)]
    for use in (
        lambda: open_before.add("chat 0", batch(1)),
        lambda: open_before.search(batch(1).rows, 1, EVERYTHING),
    ):
        with pytest.raises(
            ChatError, match="the list of servers was changed since this memory was opened: open it"
        ):
            use()
    open_before.close()
    store = PostgresStore([third, *urls])
    assert contents(store) == held
    assert store.chats() == chats
    fresh = [number for name in range(12) for number in store.add(f"chat {name}", batch(2, 4 + name % 2))]
    assert len({*fresh}) == 24
    assert min(fresh) > max(number for number, *_ in held)
    held = contents(store)
    store.close()
    assert rebalance([*urls, third]) == 0
    with pytest.raises(
        ChatError, match=r"holds chats of this memory and is in neither list: name it in urls, or in leav"
    ):
        rebalance([urls[0], third])
    rebalance([urls[0], third], leaving=[urls[1]])
    store = PostgresStore([urls[0], third])
    assert contents(store) == held
    store.close()
    # The one that left is empty, and free for something else.
    alone = PostgresStore([urls[1]])
    assert alone.chats() == {}
    alone.close()
    assert rebalance([third], leaving=[urls[0]]) > 0
    store = PostgresStore([third])
    assert contents(store) == held
    store.close()


def stop_at(monkeypatch: pytest.MonkeyPatch, url: str, statement: str) -> Callable[[], None]:
    """Let a server refuse a statement, as if it were lost there; return what lifts that."""
    execute(
        url,
        "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''lost''; END'",
    )
    execute(url, f"CREATE TRIGGER stop BEFORE {statement} EXECUTE FUNCTION stop()")
    table = statement.split()[-1]
    return lambda: execute(url, f"DROP TRIGGER stop ON {table}; DROP FUNCTION stop()") and None


FINISHED = [("UPDATE ON titan_memory", 0), ("INSERT ON titan_chat", 0), ("INSERT ON titan_chat", 1)]


@pytest.mark.parametrize("where", ["DELETE ON titan_item", "INSERT ON titan_chat", "UPDATE ON titan_memory"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_move_that_is_broken_off_is_completed_by_the_next(
    monkeypatch: pytest.MonkeyPatch, urls: list[str], third: str, where: str, place: int
) -> None:
    held, _ = filled(urls, chats=60)
    servers = [*urls, third]
    PostgresStore([third]).close()
    execute(third, "UPDATE titan_memory SET memory = NULL, ring = NULL, addresses = NULL")
    lift = stop_at(monkeypatch, servers[place], where)
    with suppress(ChatError):
        rebalance(servers)
    if any(moving for url in servers for (moving,) in execute(url, "SELECT moving FROM titan_memory")):
        with pytest.raises(ChatError, match=r"rebalance\(urls\)"):
            PostgresStore(urls)
    else:
        # Refused before anything was begun, or nothing was in its way.
        assert (where, place) in FINISHED
    lift()
    rebalance(servers)
    store = PostgresStore(servers)
    assert contents(store) == held
    assert sum(chat.rows for chat in store.chats().values()) == len(held)
    store.close()


def test_a_server_that_was_leaving_when_it_broke_off_cannot_be_left_out(
    monkeypatch: pytest.MonkeyPatch, urls: list[str]
) -> None:
    held, _ = filled(urls, chats=60)
    lift = stop_at(monkeypatch, urls[1], "DELETE ON titan_item")
    with pytest.raises(ChatError, match=r"refused \(lost\)"):
        rebalance(urls[:1], leaving=urls[1:])
    lift()
    with pytest.raises(ChatError, match="holds chats of this memory and is in neither list"):
        rebalance(urls[:1])
    rebalance(urls[:1], leaving=urls[1:])
    store = PostgresStore(urls[:1])
    assert contents(store) == held
    store.close()


def test_a_copy_that_was_committed_before_its_source_was_dropped_is_made_again(
    urls: list[str], third: str
) -> None:
    """What is left where a machine dies between the two commits of a move."""
    held, _ = filled(urls, chats=60)
    rebalance([*urls, third])
    store = PostgresStore([*urls, third])
    moved = next(name for name in store.chats() if store._members.of(name) is store._members.servers[2])
    store.close()
    # Put half of a moved chat's items back on the server where it was, as the older copy: the source counts.
    execute(
        urls[0],
        "INSERT INTO titan_chat (id, dimension, rows, made, last_added) "
        f"SELECT '{moved}', 4, 1, now(), now()",
    )
    number = execute(urls[0], f"SELECT number FROM titan_chat WHERE id = '{moved}'")[0][0]
    execute(urls[0], f"INSERT INTO titan_item VALUES (9999, {number}, 0, 'source', NULL, NULL, '[1,0,0,0]')")
    assert rebalance([*urls, third]) == 1
    store = PostgresStore([*urls, third])
    assert [item.text for item in store.items(Selection(moved))] == ["source"]
    assert [one for one in contents(store) if one[1] != moved] == [one for one in held if one[1] != moved]
    store.close()


def test_servers_without_a_memory_cannot_be_rebalanced(urls: list[str]) -> None:
    with pytest.raises(ChatError, match="none of these servers holds a memory yet"):
        rebalance(urls)


def test_an_open_that_was_broken_off_halfway_is_completed(urls: list[str]) -> None:
    PostgresStore(urls).close()
    execute(urls[1], "UPDATE titan_memory SET memory = NULL, ring = NULL, addresses = NULL")
    held, _ = filled(urls, chats=4)
    assert len({number for number, *_ in held}) == len(held)


def test_other_formats_and_encodings_are_refused(postgres_servers: Servers, urls: list[str]) -> None:
    PostgresStore(urls).close()
    execute(urls[1], "UPDATE titan_memory SET format = 99")
    with pytest.raises(
        ChatError, match=r"holds a chat memory of format 99, and this titan_nb knows format 1: use"
    ):
        PostgresStore(urls)
    execute(urls[1], "DELETE FROM titan_memory")
    with pytest.raises(ChatError, match="titan_memory is empty: restore the database from a backup"):
        PostgresStore(urls)
    server = postgres_servers[0]
    execute(server.url("postgres"), "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(ChatError, match="keeps text as LATIN1, which cannot hold all texts"):
        PostgresStore([server.url("latin")])


def test_a_server_without_pgvector_is_told_what_it_lacks(postgres_template: PostgresServer) -> None:
    server = PostgresServer(like=postgres_template, extension_control_path="/nowhere")
    try:
        server.start()
        with pytest.raises(
            ChatError, match=r"has no pgvector: install it on that machine \(the package postgresql-NN"
        ):
            PostgresStore([server.url("postgres")])
    finally:
        server.remove()


def test_users_without_the_right_to_it_are_told(postgres_servers: Servers) -> None:
    server = postgres_servers[1]
    name = server.new_database()
    execute(server.url("postgres"), f"CREATE USER reader{name} PASSWORD '{PASSWORD}'")
    url = f"postgresql://reader{name}:{PASSWORD}@127.0.0.1:{server.port}/{name}"
    with pytest.raises(ChatError, match="this user may not switch on pgvector: let an administrator"):
        PostgresStore([url])
    execute(server.url(name), "CREATE EXTENSION vector")
    with pytest.raises(ChatError, match=r"refused \(permission denied for schema public"):
        PostgresStore([url])
