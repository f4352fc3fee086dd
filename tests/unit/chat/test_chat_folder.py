"""The folder of a memory: made for its owner, one writer, many readers, nothing foreign touched."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
from pathlib import Path

import numpy as np
import pytest

from tests.unit.chat.folders import made, notes
from titan_nb.chat.folder import Folder
from titan_nb.errors import ChatError, ResourceError


def contents(place: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(place)): path.read_bytes() if path.is_file() else None
        for path in place.rglob("*")
    }


def test_a_new_folder_is_for_its_owner_only(folder: Folder, place: Path) -> None:
    os.umask(os.umask(0o022))
    connection = folder.connect()
    connection.execute("CREATE TABLE notes (text TEXT)")
    folder.new_segment(1, 4).append(np.zeros((1, 4), np.float32))
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*")}
    assert files == {
        **dict.fromkeys(["lock", "memory.sqlite3", "memory.sqlite3-wal", "memory.sqlite3-shm"], 0o600),
        "vectors": 0o700,
        "0001.rows": 0o600,
    }
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    connection.close()


def test_a_folder_is_opened_again_as_it_was(place: Path) -> None:
    made(place)
    assert Folder.holds_memory(place)
    again = Folder.open(place)
    assert notes(again) == ["kept"]
    assert not again.unclean
    again.close()
    assert Folder.open(f"{place}/../memory", "r").path.resolve() == place


def test_segments_are_files_by_number(folder: Folder) -> None:
    rows = np.ones((2, 4), np.float32)
    segment = folder.new_segment(12345, 4)
    segment.append(rows)
    folder.new_segment(7, 4)
    (folder.path / "vectors" / "note.rows").touch()
    assert folder.numbers() == {7, 12345}
    np.testing.assert_array_equal(folder.segment(12345, 4, 2).rows(), rows)
    assert folder.new_segment(12345, 4).rows().shape == (0, 4)
    folder.remove(12345)
    folder.remove(12345)
    assert folder.numbers() == {7}
    with pytest.raises(ChatError) as caught:
        folder.segment(12345, 4, 0)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    (folder.path / "vectors" / "0008.rows").mkdir()
    with pytest.raises(ChatError, match="removing"):
        folder.remove(8)


@pytest.mark.parametrize(
    "name", ["notes.txt", "memory.sqlite3-wal", "vectors.bak", "memory.sqlite3", ".git", "index.faiss"]
)
@pytest.mark.parametrize("mode", ["r", "w"])
def test_a_folder_that_is_something_else_is_left_untouched(tmp_path: Path, name: str, mode: str) -> None:
    (tmp_path / name).write_bytes(b"mine")
    (tmp_path / "vectors").mkdir()
    before = contents(tmp_path)
    with pytest.raises(ChatError, match=r"left as it is|there is no memory"):
        Folder.open(tmp_path, mode)  # type: ignore[arg-type]
    assert contents(tmp_path) == before
    assert not Folder.holds_memory(tmp_path)


def test_a_foreign_database_is_left_untouched(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "memory.sqlite3")
    other.execute("CREATE TABLE x (y)")
    other.close()
    before = contents(tmp_path)
    with pytest.raises(ChatError, match="is no database of titan_nb"):
        Folder.open(tmp_path)
    assert contents(tmp_path) == before


def test_a_file_and_a_path_through_one_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ChatError, match="is a file: give a folder"):
        Folder.open(file)
    with pytest.raises(ChatError, match="Not a directory"):
        Folder.open(file / "memory")
    assert file.read_text() == "mine"


def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(ChatError, match="there is no memory in"):
            Folder.open(place, "r")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "kept", [(), ("lock",), ("lock", "vectors"), ("lock", "vectors", "memory.sqlite3.new")]
)
def test_a_folder_that_was_only_begun_is_made_ready(tmp_path: Path, kept: tuple[str, ...]) -> None:
    for name in kept:
        (tmp_path / name).mkdir() if name == "vectors" else (tmp_path / name).write_bytes(b"half")
    made(tmp_path)
    folder = Folder.open(tmp_path)
    assert notes(folder) == ["kept"]
    assert not (tmp_path / "memory.sqlite3.new").exists()
    folder.close()


def test_a_newer_format_is_refused_and_left_alone(place: Path) -> None:
    made(place)
    connection = sqlite3.connect(place / "memory.sqlite3")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ChatError, match=r"newer titan_nb \(format 99; this one knows up to 1\): update"):
        Folder.open(place)
    with pytest.raises(ChatError, match="newer titan_nb"):
        Folder.open(place, "r").connect()
    # The refused writer has let go of the lock.
    connection = sqlite3.connect(place / "memory.sqlite3")
    connection.execute("PRAGMA user_version=1")
    connection.close()
    Folder.open(place).close()


@pytest.mark.parametrize("name", ["make_database", "_make"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "full"), ResourceError),
        (OSError(errno.EROFS, "ro"), ChatError),
        (sqlite3.OperationalError("database or disk is full"), ResourceError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_folder_that_cannot_be_made_is_no_obstacle_later(
    place: Path, monkeypatch: pytest.MonkeyPatch, name: str, error: BaseException, kind: type[BaseException]
) -> None:
    if name == "_make" and isinstance(error, sqlite3.Error):
        error = OSError(errno.EDQUOT, "quota")

    def failing(_: Path) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(f"titan_nb.chat.folder.{name}", failing)
        with pytest.raises(kind):
            Folder.open(place)
    made(place)
