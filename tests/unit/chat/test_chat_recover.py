"""What no commit names is removed, what is damaged is named and taken out, and the rest stays."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from titan_nb.chat.catalog import Catalog, ChunkRow
from titan_nb.chat.folder import Folder
from titan_nb.chat.recover import LOST, Recovered, recover, verify
from titan_nb.chat.segment import HEADER_BYTES
from titan_nb.errors import ChatError, ResourceError

DIMENSION = 2
ROW_BYTES = 4 * DIMENSION
SIZES = (2, 1, 3)
"""Rows of the batches of each chunk below; their ids are the chunk's number times 100, and up."""


def rows(chunk: int, first: int, count: int) -> np.ndarray:
    return np.random.default_rng((chunk, first)).standard_normal((count, DIMENSION)).astype(np.float32)


def write(place: Path, chunks: tuple[int, ...] = (1, 2), sizes: tuple[int, ...] = SIZES) -> None:
    """Make a memory with one chat for each chunk."""
    folder = Folder.open(place)
    catalog = Catalog(folder.connect())
    for number in chunks:
        segment = folder.new_segment(number, DIMENSION)
        chat = catalog.add_chat(f"chat {number}", DIMENSION, None)
        for count in sizes:
            first = segment.count
            crc = segment.append(rows(number, first, count))
            segment.sync()
            catalog.begin()
            catalog.put_chunk(ChunkRow(number, chat, DIMENSION, first + count, 0, 0.0))
            catalog.add_batch(number, first, count, crc)
            catalog.add_items(
                ((number << 16) + slot, number * 100 + slot, 5.0, f"text {slot}", '{"a": 1}')
                for slot in range(first, first + count)
            )
            catalog.commit()
    catalog.connection.close()
    folder.close()


class Opened:
    """A memory, open for as long as a test looks at it."""

    def __init__(self, place: Path, *, unclean: bool = False) -> None:
        self.folder = Folder.open(place)
        self.folder.unclean |= unclean
        self.connection = self.folder.connect()

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()
        self.folder.close()

    def recover(self) -> tuple[Recovered, ...]:
        return recover(self.connection, self.folder)

    def ids(self) -> list[int]:
        return [number for (number,) in self.connection.execute("SELECT id FROM items ORDER BY id")]

    def counts(self) -> dict[int, tuple[int, int]]:
        """Return count and dead by chunk, having compared every row that has an item."""
        held = {}
        for number, count, dead in self.connection.execute("SELECT number, count, dead FROM chunks"):
            segment = self.folder.segment(number, DIMENSION, count)
            assert segment.path.stat().st_size == segment.file_bytes
            table = segment.rows()
            for (place,) in self.connection.execute(
                "SELECT place FROM items WHERE place >> 16 = ?", (number,)
            ):
                slot = place & 0xFFFF
                first = max(start for start in (0, 2, 3) if start <= slot)
                batch = rows(number, first, {0: 2, 2: 1, 3: 3}[first])
                np.testing.assert_array_equal(table[slot], batch[slot - first])
            held[number] = count, dead
        return held


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("written") / "memory"
    write(place)
    return place


@pytest.fixture
def place(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "memory"))


def file_of(place: Path, chunk: int) -> Path:
    return place / "vectors" / f"{chunk:04d}.rows"


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << offset % 8
    path.write_bytes(data)


ALL = [100, 101, 102, 103, 104, 105, 200, 201, 202, 203, 204, 205]


@pytest.mark.parametrize("unclean", [False, True])
def test_a_sound_folder_is_left_as_it_is(place: Path, unclean: bool) -> None:
    with Opened(place, unclean=unclean) as opened:
        assert opened.recover() == ()
        assert verify(opened.connection, opened.folder) == ()
        assert opened.ids() == ALL
        assert opened.counts() == {1: (6, 0), 2: (6, 0)}
    assert not (place / LOST).exists()


def test_rows_and_files_that_no_commit_names_are_removed(place: Path) -> None:
    with file_of(place, 2).open("ab") as file:
        file.write(bytes(3 * ROW_BYTES + 5))
    file_of(place, 3).write_bytes(b"titanrow, and then the power went")
    (place / "vectors" / "mine.txt").write_text("not a number")
    with Opened(place) as opened:
        assert opened.recover() == ()
        assert opened.ids() == ALL
        assert opened.counts() == {1: (6, 0), 2: (6, 0)}
    assert sorted(path.name for path in (place / "vectors").iterdir()) == [
        "0001.rows",
        "0002.rows",
        "mine.txt",
    ]


@pytest.mark.parametrize("size", range(HEADER_BYTES + 6 * ROW_BYTES))
def test_a_file_cut_at_each_byte_keeps_its_whole_batches(place: Path, size: int) -> None:
    os.truncate(file_of(place, 1), size)
    whole = max(0, (size - HEADER_BYTES) // ROW_BYTES)
    kept = max(end for end in (0, 2, 3) if end <= whole)
    with Opened(place) as opened:
        (found,) = opened.recover()
        assert found == Recovered("chat 1", tuple(range(100 + kept, 106)), "the end of their file is missing")
        assert opened.ids() == [number for number in ALL if number not in found.ids]
        assert opened.counts() == {1: (kept, 0), 2: (6, 0)} if kept else {2: (6, 0)}
        assert opened.recover() == ()
    lost = [json.loads(line) for line in (place / LOST).read_text().splitlines()]
    assert [one["id"] for one in lost] == list(found.ids)
    number = found.ids[0] - 100
    expected = {"chat_id": "chat 1", "time": 5.0, "text": f"text {number}", "metadata": {"a": 1}}
    assert lost[0] == {"id": found.ids[0], **expected}
    assert (place / LOST).stat().st_mode & 0o777 == 0o600


def test_a_file_that_is_gone(place: Path) -> None:
    file_of(place, 2).unlink()
    with Opened(place) as opened:
        (found,) = opened.recover()
        assert (found.chat_id, found.ids) == ("chat 2", (200, 201, 202, 203, 204, 205))
        assert opened.counts() == {1: (6, 0)}
        assert opened.folder.numbers() == {1}
        assert opened.connection.execute("SELECT name FROM chats").fetchall() == [("chat 1",)]


@pytest.mark.parametrize("offset", range(HEADER_BYTES, HEADER_BYTES + 6 * ROW_BYTES, 3))
@pytest.mark.parametrize("by", ["recover", "verify"])
def test_a_flipped_bit_takes_only_its_batch(place: Path, offset: int, by: str) -> None:
    flip(file_of(place, 1), offset)
    slot = (offset - HEADER_BYTES) // ROW_BYTES
    first, count = next((f, c) for f, c in ((0, 2), (2, 1), (3, 3)) if slot < f + c)
    with Opened(place, unclean=by == "recover") as opened:
        (found,) = opened.recover() if by == "recover" else verify(opened.connection, opened.folder)
        assert found.ids == tuple(range(100 + first, 100 + first + count))
        assert found.reason == "their bytes on the disk are not what was written"
        assert opened.ids() == [number for number in ALL if number not in found.ids]
        at_the_end = by == "recover" and first == 3
        assert opened.counts() == {1: (3, 0) if at_the_end else (6, count), 2: (6, 0)}
        assert verify(opened.connection, opened.folder) == ()
        assert not opened.connection.in_transaction


def test_after_a_clean_end_checksums_wait_for_verify(place: Path) -> None:
    flip(file_of(place, 1), HEADER_BYTES)
    with Opened(place) as opened:
        assert opened.recover() == ()
        assert [found.ids for found in verify(opened.connection, opened.folder)] == [(100, 101)]


def test_bad_batches_before_the_end_are_cut_with_it(place: Path) -> None:
    flip(file_of(place, 1), HEADER_BYTES + 2 * ROW_BYTES)
    flip(file_of(place, 1), HEADER_BYTES + 3 * ROW_BYTES)
    flip(file_of(place, 2), HEADER_BYTES)
    with Opened(place, unclean=True) as opened:
        assert [found.ids for found in opened.recover()] == [(200, 201), (102, 103, 104, 105)]
        assert opened.counts() == {1: (2, 0), 2: (6, 2)}


@pytest.mark.parametrize("offset", range(0, HEADER_BYTES, 7))
def test_a_damaged_header_is_mended_and_the_rows_are_checked(place: Path, offset: int) -> None:
    whole = file_of(place, 1).read_bytes()
    flip(file_of(place, 1), offset)
    with Opened(place) as opened:
        assert opened.recover() == ()
        assert opened.counts() == {1: (6, 0), 2: (6, 0)}
    assert file_of(place, 1).read_bytes() == whole
    flip(file_of(place, 1), offset)
    flip(file_of(place, 1), HEADER_BYTES + 2 * ROW_BYTES)
    with Opened(place) as opened:
        assert [found.ids for found in opened.recover()] == [(102,)]


def test_rows_without_items_are_nobodys_loss(place: Path) -> None:
    os.truncate(file_of(place, 1), HEADER_BYTES + 3 * ROW_BYTES)
    with Opened(place) as opened:
        opened.connection.execute("DELETE FROM items WHERE id BETWEEN 103 AND 105")
        opened.connection.execute("UPDATE chunks SET dead = 3 WHERE number = 1")
        assert opened.recover() == ()
        assert opened.counts() == {1: (3, 0), 2: (6, 0)}


@pytest.mark.parametrize("error", [sqlite3.OperationalError("database or disk is full"), KeyboardInterrupt()])
def test_chunks_without_items_go_as_a_whole_or_not_at_all(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with Opened(place) as opened:
        opened.connection.execute("DELETE FROM items WHERE id >= 200")
        opened.connection.execute("UPDATE chunks SET dead = count WHERE number = 2")

        class Failing:
            def __getattr__(self, name: str) -> object:
                return getattr(opened.connection, name)

            def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
                if statement.startswith("DELETE FROM chats"):
                    raise error
                return opened.connection.execute(statement, *values)

        with pytest.raises(type(error)):
            recover(Failing(), opened.folder)  # type: ignore[arg-type]
        assert not opened.connection.in_transaction
        assert opened.counts() == {1: (6, 0), 2: (6, 6)}
        assert opened.recover() == ()
        assert opened.counts() == {1: (6, 0)}
        assert opened.folder.numbers() == {1}


def test_only_the_newest_batches_are_checked_after_an_unclean_end(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(file_of(place, 1), HEADER_BYTES)
    monkeypatch.setattr("titan_nb.chat.recover._CHECKED_BYTES", 5 * ROW_BYTES)
    flip(file_of(place, 2), HEADER_BYTES)
    with Opened(place, unclean=True) as opened:
        assert [found.ids for found in opened.recover()] == [(200, 201)]
        monkeypatch.setattr("titan_nb.chat.recover._CHECKED_BATCHES", 10)
        monkeypatch.setattr("titan_nb.chat.recover._CHECKED_BYTES", 1 << 20)
        assert [found.ids for found in opened.recover()] == [(100, 101)]


def test_a_damaged_catalogue_is_named(place: Path) -> None:
    with Opened(place) as opened:
        (page,) = opened.connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name='items'"
        ).fetchone()
    data = bytearray((place / "memory.sqlite3").read_bytes())
    data[(page - 1) * 4096 + 8 : page * 4096 - 3000] = os.urandom(1088)
    (place / "memory.sqlite3").write_bytes(data)
    with Opened(place) as opened, pytest.raises(ChatError, match=r"memory\.sqlite3 is damaged"):
        verify(opened.connection, opened.folder)


def test_a_reader_is_told_and_changes_nothing(place: Path) -> None:
    flip(file_of(place, 1), HEADER_BYTES)
    before = (place / "memory.sqlite3").read_bytes()
    reader = Folder.open(place, "r")
    connection = reader.connect()
    assert [found.ids for found in verify(connection, reader)] == [(100, 101)]
    assert len(connection.execute("SELECT id FROM items").fetchall()) == 12
    connection.close()
    assert (place / "memory.sqlite3").read_bytes() == before
    assert not (place / LOST).exists()


def test_a_reader_does_not_take_a_compaction_for_damage(place: Path) -> None:
    """The writer drops a chunk, and its file, after the reader has read what there is."""
    with Opened(place) as opened:
        reader = Folder.open(place, "r")
        connection = reader.connect()

        class Compacting(Folder):
            def segment_path(self, number: int) -> Path:
                if number == 2 and number in opened.folder.numbers():
                    Catalog(opened.connection).drop_chunk(2)
                    opened.folder.remove(2)
                return super().segment_path(number)

        assert verify(connection, Compacting(place, "r", None)) == ()
        assert opened.folder.numbers() == {1}
        connection.close()


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt()])
def test_without_room_for_the_texts_nothing_is_taken_out(
    place: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    file_of(place, 2).unlink()

    def failing(_: int) -> None:
        raise error

    with Opened(place) as opened:
        with monkeypatch.context() as patch:
            patch.setattr("titan_nb.chat.recover.flush", failing)
            with pytest.raises((ResourceError, KeyboardInterrupt)):
                opened.recover()
        assert opened.ids() == ALL
        assert not opened.connection.in_transaction
        (found,) = opened.recover()
        assert len(found.ids) == 6


def test_a_file_that_cannot_be_read_is_no_reason_to_cut(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object) -> bytes:
        raise PermissionError(13, "denied")

    with Opened(place) as opened:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", denied)
            with pytest.raises(ChatError, match=r"mending 0001\.rows"):
                opened.recover()
        assert opened.recover() == ()
        assert opened.ids() == ALL


def test_it_says_what_is_lost() -> None:
    assert (
        str(Recovered("a", (1,), "gone"))
        == "1 item of chat 'a' lost (id 1): gone; texts are kept in lost.jsonl"
    )
    many = str(Recovered("a", tuple(range(7)), "gone"))
    assert many.startswith("7 items of chat 'a' lost (id 0, 1, 2, 3, 4, ...): gone")
