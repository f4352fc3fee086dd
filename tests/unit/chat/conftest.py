"""Folders of memories, and two real PostgreSQL servers with pgvector for each module that wants them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.postgres import PostgresServer
from titan_nb.chat.folder import Folder
from titan_nb.chat.postgres.store import PostgresStore


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a memory may be made, in a folder that is not there."""
    return tmp_path / "deep" / "memory"


@pytest.fixture
def folder(place: Path) -> Iterator[Folder]:
    """An empty memory's folder, open for writing."""
    folder = Folder.open(place)
    yield folder
    folder.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a segment may be made."""
    return tmp_path / "0001.rows"


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


@pytest.fixture
def store(urls: list[str]) -> Iterator[PostgresStore]:
    """A store on both servers; modules about other stores bring theirs."""
    opened = PostgresStore(urls)
    yield opened
    opened.close()
