"""The rows of one chunk, in memory and in a file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.unit.chat.local_stores import units
from titan_nb.chat.chunk import Chunk
from titan_nb.chat.folder import Folder
from titan_nb.chat.scratch import Scratch
from titan_nb.errors import ChatError, ResourceError

ROWS = units(50)
ROW_BYTES = 8 * 4


@pytest.fixture
def scratch() -> Iterator[Scratch]:
    made = Scratch()
    yield made
    made.close()


@pytest.fixture
def chunk(scratch: Scratch) -> Chunk:
    return Chunk(1, "a", 8, scratch, durable=False)


def _add(chunk: Chunk, rows: np.ndarray) -> None:
    chunk.write(rows)
    chunk.publish(chunk.count + len(rows))


def test_rows_that_were_handed_out_never_change(chunk: Chunk) -> None:
    _add(chunk, ROWS[:5])
    seen = chunk.rows
    for number in range(5, 40):
        _add(chunk, ROWS[number : number + 1])
    assert np.array_equal(seen, ROWS[:5])
    assert np.array_equal(chunk.rows, ROWS[:40])
    assert chunk.rows_bytes == 64 * ROW_BYTES, "room doubles"
    chunk.trim()
    assert chunk.resident_bytes == 40 * ROW_BYTES
    assert np.array_equal(chunk.rows, ROWS[:40])


def test_what_was_written_and_not_published_is_written_over(chunk: Chunk) -> None:
    _add(chunk, ROWS[:3])
    chunk.write(ROWS[10:20])
    assert len(chunk.rows) == 3
    _add(chunk, ROWS[3:5])
    assert np.array_equal(chunk.rows, ROWS[:5])


def test_a_chunk_goes_to_disk_and_comes_back(chunk: Chunk, scratch: Scratch) -> None:
    _add(chunk, ROWS[:20])
    resident = chunk.rows
    assert (chunk.on_disk, chunk.disk_bytes) == (False, 0)
    chunk.to_disk()
    chunk.to_disk()
    assert (chunk.on_disk, chunk.resident_bytes, chunk.disk_bytes) == (True, 0, 64 + 20 * ROW_BYTES)
    assert np.array_equal(chunk.rows, resident)
    _add(chunk, ROWS[20:25])
    assert chunk.on_disk
    assert np.array_equal(chunk.rows, ROWS[:25])
    chunk.to_ram()
    chunk.to_ram()
    assert (chunk.on_disk, chunk.resident_bytes) == (False, 25 * ROW_BYTES)
    _add(chunk, ROWS[25:30])
    chunk.to_disk()
    assert np.array_equal(chunk.rows, ROWS[:30])
    assert np.array_equal(resident, ROWS[:20])


def test_what_was_not_published_does_not_stay_in_the_file(chunk: Chunk) -> None:
    _add(chunk, ROWS[:3])
    chunk.to_disk()
    chunk.write(ROWS[10:20])
    chunk.write(ROWS[30:40])
    assert chunk.disk_bytes == 64 + 13 * ROW_BYTES
    chunk.cut()
    assert chunk.disk_bytes == 64 + 3 * ROW_BYTES
    assert np.array_equal(chunk.rows, ROWS[:3])


def test_a_disk_that_is_full_leaves_the_rows_in_memory(
    chunk: Chunk, scratch: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ResourceError("full", requested_bytes=1, available_bytes=0, device="disk")

    _add(chunk, ROWS[:3])
    monkeypatch.setattr(scratch, "new_segment", full)
    with pytest.raises(ResourceError):
        chunk.to_disk()
    assert (chunk.on_disk, chunk.disk_bytes) == (False, 0)
    assert np.array_equal(chunk.rows, ROWS[:3])


def test_rows_die_without_changing_what_was_seen(chunk: Chunk) -> None:
    _add(chunk, ROWS[:4])
    assert chunk.alive is None
    chunk.kill([1])
    seen = chunk.alive
    assert seen is not None
    assert seen.tolist() == [True, False, True, True]
    chunk.kill([0, 3])
    _add(chunk, ROWS[4:20])
    assert seen.tolist() == [True, False, True, True]
    assert chunk.alive is not None
    assert chunk.alive.tolist() == [False, False, True, False] + [True] * 16
    assert chunk.dead == 3


def test_which_rows_are_dead_may_have_to_be_asked_for(chunk: Chunk) -> None:
    _add(chunk, ROWS[:4])
    assert not chunk.alive_is_unknown
    chunk.reset(4, 2)
    assert chunk.alive_is_unknown
    chunk.set_alive(np.array([0, 2]))
    assert not chunk.alive_is_unknown
    assert chunk.alive is not None
    assert chunk.alive.tolist() == [True, False, True, False]


def test_a_durable_chunk_is_mapped_and_opened_when_it_is_used(tmp_path: Path) -> None:
    folder = Folder.open(tmp_path / "kept")
    first = Chunk(7, "a", 8, folder, durable=True)
    first.create()
    assert first.on_disk
    _add(first, ROWS[:10])
    first.sync()
    assert first.rows_bytes == 0
    second = Chunk(7, "a", 8, folder, durable=True, count=10)
    assert second.disk_bytes == 64 + 10 * ROW_BYTES
    assert np.array_equal(second.rows, ROWS[:10])
    second.to_ram()
    assert (second.on_disk, second.rows_bytes) == (False, 10 * ROW_BYTES)
    _add(second, ROWS[10:12])
    second.sync()
    assert np.array_equal(second.rows, ROWS[:12])
    second.to_disk()
    assert np.array_equal(second.rows, ROWS[:12])
    first.reset(12, 0)
    assert np.array_equal(first.rows, ROWS[:12]), "a reader sees what another process has added"
    third = Chunk(8, "a", 8, folder, durable=True, count=10)
    with pytest.raises(ChatError):
        _ = third.rows
    folder.close()


def test_scratch_files_go_with_the_memory(scratch: Scratch) -> None:
    assert scratch._path is None, "nothing is made before it is needed"
    scratch.remove(1)
    segment = scratch.new_segment(1, 8)
    segment.append(ROWS)
    segment.close()
    assert scratch.segment(1, 8, 50).count == 50
    scratch.new_segment(1, 8)
    path = scratch._path
    assert path is not None
    assert path.stat().st_mode & 0o77 == 0, "for its owner only"
    scratch.remove(1)
    assert list(path.iterdir()) == []
    scratch.close()
    assert not path.exists()
    scratch.close()


def test_scratch_files_go_with_a_memory_that_nobody_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = Scratch()
    scratch.new_segment(1, 8)
    path = scratch._path
    assert path is not None
    monkeypatch.setattr("os.getpid", lambda: -1)
    scratch_of_child = Scratch()
    scratch_of_child._path = path
    monkeypatch.undo()
    del scratch_of_child
    assert path.exists()
    del scratch
    assert not path.exists()


def test_dead_rows_stay_dead_where_it_is_not_known_which_they_are(chunk: Chunk) -> None:
    _add(chunk, ROWS[:4])
    chunk.reset(4, 1)
    chunk.kill([2])
    assert chunk.alive_is_unknown
    assert chunk.dead == 2


def test_what_was_never_published_does_not_come_back_by_way_of_memory(chunk: Chunk) -> None:
    _add(chunk, ROWS[:3])
    chunk.to_disk()
    chunk.write(ROWS[10:20])
    chunk.to_ram()
    _add(chunk, ROWS[3:5])
    chunk.to_disk()
    assert np.array_equal(chunk.rows, ROWS[:5])


@pytest.mark.parametrize("grown", [False, True])
def test_rows_outlive_a_temporary_folder_that_somebody_cleans(
    chunk: Chunk, scratch: Scratch, *, grown: bool
) -> None:
    rows = units(300)
    held = 200 if grown else 3
    _add(chunk, rows[:3])
    chunk.to_disk()
    if grown:
        _add(chunk, rows[3:held])
    assert scratch._path is not None
    shutil.rmtree(scratch._path)
    assert np.array_equal(chunk.rows, rows[:held])
    _add(chunk, rows[held:250])
    assert np.array_equal(chunk.rows, rows[:250])
    chunk.to_disk()
    assert chunk.on_disk
    _add(chunk, rows[250:])
    assert np.array_equal(chunk.rows, rows)


def test_codes_of_rows_that_were_cut_off_are_dropped(chunk: Chunk) -> None:
    _add(chunk, ROWS[:4])
    chunk.index.extend(chunk.rows)
    chunk.reset(5, 0)
    assert chunk.index.count == 4
    chunk.reset(3, 0)
    assert chunk.index.count == 0


def test_a_forked_child_that_closes_leaves_the_files(scratch: Scratch) -> None:
    scratch.new_segment(1, 8)
    path = scratch._path
    assert path is not None
    child = os.fork()
    if child == 0:
        scratch.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert path.exists()
