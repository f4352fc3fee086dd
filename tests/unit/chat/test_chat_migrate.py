"""Steps from one format to the next, each as a whole or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from titan_nb.chat.folder import Folder
from titan_nb.chat.migrate import FORMAT, STEPS, migrate


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE notes (text TEXT)")
    connection.execute("INSERT INTO notes VALUES ('first')")
    connection.execute("PRAGMA user_version=1")
    yield connection
    connection.close()


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def add_column(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE notes ADD COLUMN kind TEXT DEFAULT 'note'")


def shout(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE notes SET text = upper(text)")


def broken(connection: sqlite3.Connection) -> None:
    shout(connection)
    raise RuntimeError("power")


def test_each_older_format_has_its_step() -> None:
    assert sorted(STEPS) == list(range(1, FORMAT))


def test_steps_are_taken_in_order(connection: sqlite3.Connection) -> None:
    assert migrate(connection, {1: add_column, 2: shout}, 3) == 2
    assert version(connection) == 3
    assert connection.execute("SELECT * FROM notes").fetchall() == [("FIRST", "note")]


def test_what_is_up_to_date_is_left_alone(connection: sqlite3.Connection) -> None:
    assert migrate(connection, {1: broken}, 1) == 0


def test_a_step_that_fails_changes_nothing_and_those_before_it_stay(connection: sqlite3.Connection) -> None:
    with pytest.raises(RuntimeError, match="power"):
        migrate(connection, {1: add_column, 2: broken}, 3)
    assert version(connection) == 2
    assert connection.execute("SELECT * FROM notes").fetchall() == [("first", "note")]
    assert not connection.in_transaction


def test_a_format_without_a_step(connection: sqlite3.Connection) -> None:
    with pytest.raises(KeyError):
        migrate(connection, {2: shout}, 3)
    assert version(connection) == 1


def test_an_older_folder_is_brought_up_to_date_by_its_next_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder.open(tmp_path / "memory")
    connection = folder.connect()
    connection.execute("CREATE TABLE notes (text TEXT)")
    connection.execute("INSERT INTO notes VALUES ('kept')")
    connection.close()
    folder.close()
    monkeypatch.setattr("titan_nb.chat.database.FORMAT", FORMAT + 1)
    monkeypatch.setattr(
        "titan_nb.chat.folder.migrate", lambda held: migrate(held, {FORMAT: add_column}, FORMAT + 1)
    )
    reader = Folder.open(tmp_path / "memory", "r")
    with pytest.raises(ValueError, match=r"old format .* open it once for writing"):
        reader.connect()
    writer = Folder.open(tmp_path / "memory")
    connection = writer.connect()
    assert version(connection) == FORMAT + 1
    assert connection.execute("SELECT * FROM notes").fetchall() == [("kept", "note")]
    connection.close()
    connection = reader.connect()
    assert connection.execute("SELECT kind FROM notes").fetchall() == [("note",)]
    connection.close()
    writer.close()
