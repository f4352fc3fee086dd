"""Two real PostgreSQL servers with pgvector, started for each module that wants them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[PostgresServer]:
    """A server that was never started, to copy."""
    server = PostgresServer()
    yield server
    server.remove()


# No longer than a module: other tests look at the children of this process.
@pytest.fixture(scope="module")
def postgres_servers(postgres_template: PostgresServer) -> Iterator[tuple[PostgresServer, PostgresServer]]:
    servers = PostgresServer(like=postgres_template), PostgresServer(like=postgres_template)
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.remove()


@pytest.fixture
def urls(postgres_servers: tuple[PostgresServer, PostgresServer]) -> list[str]:
    """An empty database on each server: one over a socket, one over TCP with a password."""
    first, second = postgres_servers
    return [first.url("chat", first.new_schema()), second.url_with_password("chat", second.new_schema())]
