"""A file of rows: what is appended is there, what fails leaves no trace, and damage is seen."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.unit.chat.segments import DIMENSION, table
from titan_nb.chat.segment import HEADER_BYTES, Segment
from titan_nb.errors import ChatError, ResourceError


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_rows_come_back_as_they_were_appended(path: Path) -> None:
    parts = [table(3, 1), table(1, 2), table(200, 3), table(0)]
    segment = Segment.create(path, DIMENSION)
    sums = [segment.append(part) for part in parts]
    segment.sync()
    assert sums == [zlib.crc32(part.tobytes()) for part in parts]
    for opened in (segment, Segment.open(path, DIMENSION, 204)):
        assert opened.count == 204
        np.testing.assert_array_equal(opened.rows(), np.concatenate(parts))
        assert opened.file_bytes == path.stat().st_size == HEADER_BYTES + 204 * 4 * DIMENSION
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_new_segment_has_no_rows(path: Path) -> None:
    assert Segment.create(path, DIMENSION).rows().shape == (0, DIMENSION)


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    before = descriptors()
    segments = [Segment.create(tmp_path / f"{number}.rows", DIMENSION) for number in range(20)]
    kept = []
    for segment in segments:
        segment.append(table(2))
        segment.sync()
        kept.append(segment.rows())
    assert descriptors() == before


def test_close_lets_go_of_an_append_that_was_not_synced(path: Path) -> None:
    before = descriptors()
    segment = Segment.create(path, DIMENSION)
    segment.append(table(2))
    assert descriptors() != before
    segment.close()
    assert descriptors() == before


def test_writes_that_the_system_takes_in_pieces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: write(fd, data[:7], offset))
    segment = Segment.create(path, DIMENSION)
    segment.append(table(5))
    np.testing.assert_array_equal(segment.rows(), table(5))


def failing_after(writes: int, error: BaseException) -> Callable[[int, memoryview, int], int]:
    write, left = os.pwrite, [writes]

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if left[0] == 0:
            raise error
        left[0] -= 1
        return write(fd, data[:10], offset)

    return pwrite


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (OSError(errno.ENOSPC, "full"), ResourceError, r"storing 5 rows .* needs 240 B, .*free there: .*B"),
        (OSError(errno.EDQUOT, "quota"), ResourceError, "make room"),
        (OSError(errno.EIO, "broken"), ChatError, r"storing 5 rows .*Input/output error"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("writes", [0, 1, 3])
def test_an_append_that_fails_leaves_nothing_behind(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    kind: type[BaseException],
    says: str | None,
    writes: int,
) -> None:
    before = descriptors()
    segment = Segment.create(path, DIMENSION)
    segment.append(table(3))
    segment.sync()
    size = path.stat().st_size
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing_after(writes, error))
        with pytest.raises(kind, match=says) as caught:
            segment.append(table(5, 1))
    assert (segment.count, path.stat().st_size, descriptors()) == (3, size, before)
    if isinstance(caught.value, ResourceError):
        assert caught.value.requested_bytes == 240
        assert caught.value.available_bytes
    segment.append(table(2, 2))
    segment.sync()
    np.testing.assert_array_equal(segment.rows(), np.concatenate([table(3), table(2, 2)]))


def test_an_append_that_cannot_be_taken_back_is_written_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment = Segment.create(path, DIMENSION)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing_after(2, OSError(errno.EIO, "broken")))
        patch.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
        with pytest.raises(ChatError):
            segment.append(table(5, 1))
    segment.append(table(2))
    np.testing.assert_array_equal(segment.rows(), table(2))


def test_rows_that_cannot_be_synced_are_gone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segment.create(path, DIMENSION)
    segment.append(table(3))
    segment.sync()
    segment.append(table(4, 1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
        with pytest.raises(ChatError, match="storing 4 rows"):
            segment.sync()
    assert segment.count == 3
    assert path.stat().st_size == segment.file_bytes


def test_a_limit_of_the_file_size_is_told_as_it_is(tmp_path: Path) -> None:
    script = (
        "import resource, sys\nfrom pathlib import Path\nimport numpy as np\n"
        "from titan_nb.chat.segment import Segment\nfrom titan_nb.errors import ResourceError\n"
        "segment = Segment.create(Path(sys.argv[1]), 12)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    segment.append(np.zeros((50, 12), np.float32))\n"
        "except ResourceError as error:\n    print(error)\n"
        "segment.append(np.ones((3, 12), np.float32))\nsegment.sync()\nprint(segment.rows().sum())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "1.rows")], capture_output=True, text=True, timeout=60
    )
    assert "a file may grow no further" in done.stdout
    assert done.stdout.endswith("36.0\n")


def test_the_data_is_synced_before_the_name_and_the_name_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("fdatasync", "fsync"):
        sync = getattr(os, name)

        def recorded(descriptor: int, name: str = name, sync: Callable[[int], None] = sync) -> None:
            calls.append(f"{name} {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
            sync(descriptor)

        monkeypatch.setattr(os, name, recorded)
    segment = Segment.create(path, DIMENSION)
    segment.append(table(1))
    segment.sync()
    segment.append(table(1))
    segment.sync()
    assert calls == ["fdatasync 0001.rows", f"fsync {path.parent.name}", "fdatasync 0001.rows"]
    calls.clear()
    empty = Segment.create(path.with_name("2.rows"), DIMENSION)
    empty.sync()
    assert calls == ["fdatasync 2.rows", f"fsync {path.parent.name}"]


def test_opening_takes_only_the_rows_that_count(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    segment.append(table(5))
    segment.sync()
    opened = Segment.open(path, DIMENSION, 3)
    np.testing.assert_array_equal(opened.rows(), table(5)[:3])
    opened.append(table(1, 9))
    opened.sync()
    opened.truncate(4)
    assert path.stat().st_size == opened.file_bytes
    np.testing.assert_array_equal(opened.rows(), np.concatenate([table(5)[:3], table(1, 9)]))


def test_cut_rows_are_gone_and_others_take_their_place(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    segment.append(table(50))
    old = segment.rows()
    segment.truncate(2)
    assert (segment.count, len(segment.rows())) == (2, 2)
    segment.append(table(3, 4))
    np.testing.assert_array_equal(segment.rows(), np.concatenate([table(50)[:2], table(3, 4)]))
    assert len(old) == 50


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(ChatError, match="No such file") as caught:
        Segment.open(path, DIMENSION, 0)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    segment = Segment.create(path, DIMENSION)
    path.unlink()
    for action in (lambda: segment.append(table(1)), segment.rows, lambda: segment.truncate(0), segment.sync):
        with pytest.raises(ChatError, match="No such file"):
            action()
    assert not segment.check(0, 0, 1)


def test_a_file_that_is_there_is_not_made_anew(path: Path) -> None:
    path.write_bytes(b"mine")
    with pytest.raises(ChatError, match="File exists"):
        Segment.create(path, DIMENSION)
    assert path.read_bytes() == b"mine"


def test_a_file_that_cannot_be_made_leaves_no_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", failing_after(1, OSError(errno.ENOSPC, "full")))
    with pytest.raises(ResourceError, match="making a file for rows"):
        Segment.create(path, DIMENSION)
    assert not path.exists()


@pytest.mark.parametrize("offset", range(HEADER_BYTES))
def test_every_flipped_bit_of_the_header_is_seen_and_mended(path: Path, offset: int) -> None:
    segment = Segment.create(path, DIMENSION)
    segment.append(table(2))
    whole = path.read_bytes()
    assert Segment.open(path, DIMENSION, 2).mend() == (len(whole), False)
    flip(path, offset, offset % 8)
    with pytest.raises(ChatError, match="damaged"):
        Segment.open(path, DIMENSION, 2)
    assert segment.mend() == (len(whole), True)
    assert path.read_bytes() == whole


def test_short_and_foreign_files_are_refused(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    segment.append(table(2))
    whole = path.read_bytes()
    with pytest.raises(ChatError, match=f"rows of {DIMENSION} numbers, and 11"):
        Segment.open(path, 11, 1)
    path.write_bytes(whole[:-1])
    with pytest.raises(ChatError, match="holds 1 rows where 2"):
        Segment.open(path, DIMENSION, 2)
    for foreign in (b"", whole[:40], b"PK" + bytes(100)):
        path.write_bytes(foreign)
        with pytest.raises(ChatError, match="does not begin"):
            Segment.open(path, DIMENSION, 0)


def test_a_newer_format_is_refused_and_left_alone(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    head = bytearray(path.read_bytes())
    head[8] = 2
    head[-4:] = zlib.crc32(head[:-4]).to_bytes(4, "little")
    path.write_bytes(head)
    for action in (lambda: Segment.open(path, DIMENSION, 0), segment.mend):
        with pytest.raises(ChatError, match="newer titan_nb"):
            action()
    assert path.read_bytes() == head


def test_a_lost_file_is_mended_into_an_empty_one(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    path.unlink()
    assert segment.mend() == (HEADER_BYTES, True)
    assert Segment.open(path, DIMENSION, 0).count == 0
    path.unlink()
    path.mkdir()
    with pytest.raises(ChatError, match="mending"):
        segment.mend()


def test_every_flipped_byte_and_every_missing_one_fails_the_check(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    first, second = segment.append(table(1, 1)), segment.append(table(1, 2))
    whole = path.read_bytes()
    assert segment.check(0, 1, first)
    assert segment.check(1, 1, second)
    for offset in range(HEADER_BYTES, len(whole)):
        flip(path, offset, offset % 8)
        in_first = offset < HEADER_BYTES + 4 * DIMENSION
        assert (segment.check(0, 1, first), segment.check(1, 1, second)) == (not in_first, in_first)
        path.write_bytes(whole)
    for size in range(HEADER_BYTES + 4 * DIMENSION, len(whole)):
        path.write_bytes(whole[:size])
        assert segment.check(0, 1, first)
        assert not segment.check(1, 1, second)


@pytest.mark.parametrize(
    ("code", "damaged"), [(errno.EIO, True), (errno.EMFILE, False), (errno.EACCES, False)]
)
def test_what_cannot_be_read_is_damaged_only_where_the_disk_says_so(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, damaged: bool
) -> None:
    segment = Segment.create(path, DIMENSION)
    crc = segment.append(table(2))

    def failing(*_: object) -> bytes:
        raise OSError(code, "failed")

    monkeypatch.setattr(os, "pread", failing)
    if damaged:
        assert not segment.check(0, 2, crc)
    else:
        with pytest.raises(ChatError, match="cannot be checked"):
            segment.check(0, 2, crc)


@pytest.mark.parametrize("rows", [np.zeros((2, 3), np.float32), np.zeros((2, 12)), np.zeros(12, np.float32)])
def test_rows_that_do_not_fit_are_refused(path: Path, rows: np.ndarray) -> None:
    with pytest.raises(ChatError, match="do not fit"):
        Segment.create(path, DIMENSION).append(rows)
