"""The database of a folder: durable, read by many, its errors in plain words."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from tests.unit.chat.folders import in_process, made, notes
from titan_nb.chat.database import DATABASE, is_database
from titan_nb.chat.folder import Folder, explained
from titan_nb.errors import ChatError, ResourceError

NOBODY = 65534


def test_the_connection_is_durable_and_in_autocommit(folder: Folder) -> None:
    connection = folder.connect()

    def pragma(name: str) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert (pragma("journal_mode"), pragma("synchronous"), pragma("fullfsync")) == ("wal", 2, 1)
    connection.execute("CREATE TABLE notes (text TEXT)")
    assert not connection.in_transaction
    connection.close()


def test_readers_read_beside_the_writer_and_see_what_it_commits(folder: Folder, place: Path) -> None:
    connection = folder.connect()
    connection.execute("CREATE TABLE notes (text TEXT)")
    reader = Folder.open(place, "r")
    reading = reader.connect()
    connection.execute("INSERT INTO notes VALUES ('new')")
    assert reading.execute("SELECT text FROM notes").fetchall() == [("new",)]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reading.execute("DELETE FROM notes")
    script = "c = Folder.open(sys.argv[1], 'r').connect()\nprint(c.execute('SELECT * FROM notes').fetchall())"
    assert in_process(script, place) == "[('new',)]\n"
    reading.close()
    connection.close()


def test_a_damaged_database_is_named(place: Path) -> None:
    made(place)
    database = place / "memory.sqlite3"
    data = bytearray(database.read_bytes())
    data[100:4096] = bytes(3996)
    database.write_bytes(data)
    for mode in ("w", "r"):
        with pytest.raises(ChatError, match=r"memory\.sqlite3 is damaged"):
            Folder.open(place, mode).connect()  # type: ignore[arg-type]


def test_without_shared_memory_for_the_log(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Without(sqlite3.Connection):
        def execute(self, statement: str, *rest: object) -> sqlite3.Cursor:
            return super().execute(statement.replace("journal_mode=WAL", "journal_mode=DELETE"), *rest)

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, factory=Without, **k))
    with pytest.raises(ChatError, match="has no shared memory"):
        Folder.open(place)
    monkeypatch.undo()
    Folder.open(place).close()


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("database or disk is full", ResourceError, "make room"),
        ("database is locked", ChatError, "try again"),
        ("file is not a database", ChatError, "bring back a copy"),
        ("disk I/O error", ChatError, "check the disk"),
    ],
)
def test_errors_of_sqlite_in_plain_words(tmp_path: Path, text: str, kind: type, says: str) -> None:
    error = explained(sqlite3.OperationalError(text), tmp_path)
    assert type(error) is kind
    assert says in str(error)


WITHOUT_RIGHTS = """
place = sys.argv[1]
try:
    open(place + '/probe', 'w')
    print('denial is not in force')
except PermissionError:
    print('denied')
for mode in ('w', 'r'):
    try:
        connection = Folder.open(place, mode).connect()
        print(connection.execute('SELECT text FROM notes').fetchall())
    except ChatError as error:
        print(error)
"""


def without_rights(place: Path, folder_mode: int, file_mode: int) -> list[str]:
    """Try to write and to read a folder as somebody with these rights only; root has all of them always."""
    drop = ""
    inside = [place, *place.rglob("*")]
    if os.getuid() == 0:
        drop = f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})"
        for path in inside:
            os.chown(path, NOBODY, NOBODY)
        for parent in place.parents:
            if not parent.stat().st_mode & 0o001:
                parent.chmod(0o711)
    for path in reversed(inside):
        path.chmod(folder_mode if path.is_dir() else file_mode)
    try:
        return in_process(drop + WITHOUT_RIGHTS, place).splitlines()
    finally:
        for path in inside:
            path.chmod(0o700 if path.is_dir() else 0o600)


def test_a_folder_that_cannot_be_written_to_is_read(place: Path) -> None:
    probe, writing, reading = without_rights(made(place), 0o500, 0o400)
    assert probe == "denied"
    assert "cannot be written to (Permission denied): give another, or read it with mode='r'" in writing
    assert reading == "[('kept',)]"


def test_one_that_was_not_closed_cannot_be_read_there_and_says_so(place: Path) -> None:
    made(place)
    folder = Folder.open(place)
    connection = folder.connect()
    connection.execute("INSERT INTO notes VALUES ('in the log')")
    log = (place / "memory.sqlite3-wal").read_bytes()
    connection.close()
    folder.close()
    (place / "memory.sqlite3-wal").write_bytes(log)
    probe, _, reading = without_rights(place, 0o500, 0o400)
    assert probe == "denied"
    assert "was not closed" in reading
    assert "copy the folder and open the copy" in reading


def test_one_without_rights_to_look_inside(place: Path) -> None:
    probe, writing, reading = without_rights(made(place), 0o000, 0o000)
    assert probe == "denied"
    assert "cannot be read (Permission denied)" in writing
    assert reading == writing


def test_a_database_that_cannot_be_read(place: Path) -> None:
    _, writing, reading = without_rights(made(place), 0o700, 0o000)
    assert "memory.sqlite3 cannot be read with your rights, and was left as it is" in writing
    assert reading == writing


def test_where_the_log_has_no_place_the_file_alone_is_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two tests above in this process, with a SQLite that fails as it does there."""
    made(place)
    connect = sqlite3.connect

    def failing(database: str, **options: object) -> sqlite3.Connection:
        if "mode=ro" in database:
            raise sqlite3.OperationalError("unable to open database file")
        return connect(database, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sqlite3, "connect", failing)
    reader = Folder.open(place, "r")
    with pytest.raises(ChatError, match="unable to open"):
        reader.connect()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert notes(reader) == ["kept"]
    (place / "memory.sqlite3-wal").write_bytes(b"")
    assert notes(reader) == ["kept"]
    (place / "memory.sqlite3-wal").write_bytes(b"frames")
    with pytest.raises(ChatError, match="was not closed"):
        reader.connect()


def test_a_database_that_is_none(place: Path) -> None:
    made(place)
    folder = Folder.open(place, "r")
    (place / "memory.sqlite3").write_bytes(b"SQLite forma" + bytes(5000))
    with pytest.raises(ChatError, match=r"memory\.sqlite3 is damaged \(file is not a database\)"):
        folder.connect()


def test_looking_whether_it_is_a_memory_ends_no_locks(folder: Folder, place: Path) -> None:
    connection = folder.connect()
    connection.execute("CREATE TABLE notes (text TEXT)")
    assert Folder.holds_memory(place)
    with pytest.raises(ChatError, match="has it open already"):
        Folder.open(place)
    # Whoever closes the last connection removes the log: another process must not think that it does.
    in_process(
        "import sqlite3\nc = sqlite3.connect(sys.argv[1])\nc.execute('SELECT * FROM notes')\nc.close()",
        place / "memory.sqlite3",
    )
    assert (place / "memory.sqlite3-wal").exists()
    connection.close()


def test_what_is_a_memory(place: Path, tmp_path: Path) -> None:
    made(place)
    before = sorted(place.iterdir())
    assert Folder.holds_memory(place)
    assert sorted(place.iterdir()) == before
    other = tmp_path / "other"
    other.mkdir()
    for content in (b"", b"SQLite format 3", bytes(5000)):
        (other / "memory.sqlite3").write_bytes(content)
        assert not Folder.holds_memory(other)
    (other / "memory.sqlite3").unlink()
    sqlite3.connect(other / "memory.sqlite3").execute("CREATE TABLE mine (x)").connection.close()
    assert not Folder.holds_memory(other)


def test_a_database_that_was_cut_while_its_log_was_written_back_is_still_one(tmp_path: Path) -> None:
    file = made(tmp_path / "memory") / DATABASE
    data = file.read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(data[: len(data) // 2 // 4096 * 4096])
    connection = sqlite3.connect(f"file:{cut}?immutable=1", uri=True)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        connection.execute("PRAGMA application_id")
    connection.close()
    assert is_database(cut)
    other = bytearray(cut.read_bytes())
    other[68:72] = b"else"
    cut.write_bytes(other)
    assert not is_database(cut)
    cut.write_bytes(b"no database at all" * 1000)
    assert not is_database(cut)
