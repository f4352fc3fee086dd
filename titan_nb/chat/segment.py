"""One file of rows, which only ever grows at its end or is cut there."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from titan_nb.chat.disk import disk_error, flush, flush_folder, write_all
from titan_nb.chat.mapped_rows import MappedRows
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["HEADER_BYTES", "Segment"]

HEADER_BYTES = 64
"""So that the rows start on a cache line."""

_FORMAT = 1
_MAGIC = b"titanrow"
_FLOAT32 = b"<f4\0"
_FIELDS = struct.Struct("<8sII4s40x")
_SUM = struct.Struct("<I")
_READ_BYTES = 1 << 20
_FIRST_ROOM_ROWS = 64


class Segment:
    """The float32 rows of one chunk in a file: a header of 64 bytes, then row after row.

    No descriptor stays open between an append and the next: a memory of a thousand chats has as many files.
    One thread at a time may change a segment; any may read `rows`.

    Args:
        path: The file; it exists.
        dimension: Numbers per row.
        count: Rows in it.
        new: Whether its name in the folder is not on the disk yet.
    """

    def __init__(self, path: Path, dimension: int, count: int, *, new: bool) -> None:
        self.path = path
        self.dimension = dimension
        self._count = count
        self._synced = count
        self._new = new
        self._descriptor: int | None = None
        self._mapping: MappedRows | None = None

    @classmethod
    def create(cls, path: Path, dimension: int) -> Segment:
        """Make a file without rows; `sync` puts it on the disk for good.

        Raises:
            ChatError: If a file of this name exists, or it cannot be written.
            ResourceError: If the disk is full.
        """
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                write_all(descriptor, memoryview(header(dimension)), 0)
            except BaseException:
                path.unlink()
                raise
            finally:
                os.close(descriptor)
        except OSError as error:
            raise disk_error(error, "making a file for rows", path.parent, HEADER_BYTES) from error
        return cls(path, dimension, 0, new=True)

    @classmethod
    def open(cls, path: Path, dimension: int, count: int) -> Segment:
        """Open a file of which the first ``count`` rows count; there may be more of an append cut short.

        Raises:
            ChatError: If it is not there (then from a `FileNotFoundError`), is no such file, or holds fewer
                rows.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.pread(descriptor, HEADER_BYTES, 0)
                size_bytes = os.fstat(descriptor).st_size
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ChatError(f"{path} cannot be opened ({os.strerror(error.errno or 0)})") from error
        _refuse_header(found, path, dimension)
        held = (size_bytes - HEADER_BYTES) // (4 * dimension)
        if held < count:
            raise ChatError(f"{path} holds {held} rows where {count} were stored: its end is missing")
        return cls(path, dimension, count, new=False)

    @property
    def count(self) -> int:
        """Number of rows."""
        return self._count

    @property
    def is_there(self) -> bool:
        """Whether the file still has its name; what is mapped can be read without."""
        return self.path.exists()

    @property
    def file_bytes(self) -> int:
        """Size of the header and all rows."""
        return self.end(self._count)

    def append(self, rows: np.ndarray) -> int:
        """Write rows, float32, shape (n, d), C order, after the last; `sync` puts them on the disk for good.

        Returns:
            The CRC-32 of their bytes.

        Raises:
            ChatError: If they cannot be written; then nothing has changed.
            ResourceError: If the disk is full; then nothing has changed.
        """
        if rows.ndim != 2 or rows.shape[1] != self.dimension or rows.dtype.str != "<f4":
            raise ChatError(f"rows of shape {rows.shape} and type {rows.dtype} do not fit {self.path}")
        # A cast view needs rows: NumPy exports an empty table with no bytes that could be cast.
        data = memoryview(rows.data).cast("B") if len(rows) else memoryview(b"")
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
            write_all(self._descriptor, data, self.end(self._count))
        except BaseException as error:
            self._back_to(self._count)
            if isinstance(error, OSError):
                raise disk_error(error, f"storing {len(rows)} rows", self.path.parent, len(data)) from error
            raise
        self._count += len(rows)
        return zlib.crc32(data)

    def sync(self) -> None:
        """Return when all rows are on the disk, so that no loss of power can take them.

        Raises:
            ChatError: If they cannot be written; the rows since the last `sync` are gone then.
            ResourceError: If the disk is full; the same holds.
        """
        added = self._count - self._synced
        try:
            if self._descriptor is not None:
                flush(self._descriptor)
            elif self._new:
                self._flush_reopened()
            if self._new:
                flush_folder(self.path.parent)
        except OSError as error:
            self._back_to(self._synced)
            needed = added * 4 * self.dimension
            raise disk_error(error, f"storing {added} rows", self.path.parent, needed) from error
        self._new = False
        self._synced = self._count
        self.release()

    def rows(self) -> np.ndarray:
        """Return all rows, float32, shape (count, d), mapped from the file and not copied.

        What anybody writes to the array stays in this process and never reaches the file.

        Raises:
            ChatError: If the file is gone or was cut by somebody else.
            ResourceError: If there is no address space for it.
        """
        count = self._count
        mapping = self._mapping
        if mapping is None or mapping.count < count:
            # With room, so that a chat that grows row by row is not mapped and faulted in anew each time.
            room = max(_FIRST_ROOM_ROWS, 2 * count if mapping is not None else count)
            mapping = MappedRows(self.path, HEADER_BYTES, self.dimension, held=count, count=room)
            self._mapping = mapping
        return mapping.rows[:count]

    def truncate(self, count: int) -> None:
        """Cut the file after ``count`` rows.

        Raises:
            ChatError: If it cannot be cut.
        """
        self._count = min(self._count, count)
        self._synced = min(self._synced, count)
        try:
            os.truncate(self.path, self.end(count))
        except OSError as error:
            raise disk_error(error, "cutting a file of rows", self.path.parent) from error
        finally:
            self.release()

    def check(self, first: int, count: int, crc: int) -> bool:
        """Return whether these rows are readable and have this CRC-32.

        They are read and not mapped: a page that the disk cannot deliver would kill the process.

        Raises:
            ChatError: If that cannot be told.
        """
        start, end = self.end(first), self.end(first + count)
        found = 0
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                while start < end:
                    part = os.pread(descriptor, min(_READ_BYTES, end - start), start)
                    if not part:
                        return False
                    found = zlib.crc32(part, found)
                    start += len(part)
            finally:
                os.close(descriptor)
        except OSError as error:
            # Of others, such as too many open files, the rows are not to blame.
            if error.errno in (errno.EIO, errno.ENOENT):
                return False
            raise ChatError(f"{self.path} cannot be checked ({os.strerror(error.errno or 0)})") from error
        return found == crc

    def mend(self) -> tuple[int, bool]:
        """Write the header anew where it is damaged, and an empty file where it is gone.

        Returns:
            The size of the file in bytes, and whether it had to be mended.

        Raises:
            ChatError: If a newer titan_nb wrote the file, or it cannot be read or mended.
            ResourceError: If the disk is full.
        """
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                right, found = header(self.dimension), os.pread(descriptor, HEADER_BYTES, 0)
                if _is_newer(found):
                    _refuse_header(found, self.path, self.dimension)
                if found != right:
                    write_all(descriptor, memoryview(right), 0)
                    os.fsync(descriptor)
                    flush_folder(self.path.parent)
                return os.fstat(descriptor).st_size, found != right
            finally:
                os.close(descriptor)
        except OSError as error:
            raise disk_error(error, f"mending {self.path.name}", self.path.parent, HEADER_BYTES) from error

    def close(self) -> None:
        """Let go of the file; arrays that `rows` returned stay valid."""
        self._mapping = None
        self.release()

    def release(self) -> None:
        """Let go of the descriptor that an append opened, where no `sync` is to follow."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def end(self, count: int) -> int:
        """Return where in the file the first ``count`` rows end, in bytes."""
        return HEADER_BYTES + count * 4 * self.dimension

    def _flush_reopened(self) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            flush(descriptor)
        finally:
            os.close(descriptor)

    def _back_to(self, count: int) -> None:
        """Cut what an append left behind; where that fails too, the next append writes over it."""
        self._count = count
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.end(count))
            self.release()


def header(dimension: int) -> bytes:
    """Return the first bytes of a file of rows of ``dimension`` numbers."""
    fields = _FIELDS.pack(_MAGIC, _FORMAT, dimension, _FLOAT32)
    return fields + _SUM.pack(zlib.crc32(fields))


def _is_sound(found: bytes) -> bool:
    whole = len(found) == HEADER_BYTES and found[:8] == _MAGIC
    return whole and _SUM.unpack(found[_FIELDS.size :])[0] == zlib.crc32(found[: _FIELDS.size])


def _is_newer(found: bytes) -> bool:
    """Return whether these are the first bytes of a file of another format than ours."""
    return _is_sound(found) and _FIELDS.unpack(found[: _FIELDS.size])[1::2] != (_FORMAT, _FLOAT32)


def _refuse_header(found: bytes, path: Path, dimension: int) -> None:
    if not _is_sound(found):
        raise ChatError(f"{path} does not begin as a file of rows does: it is damaged, or something else")
    if _is_newer(found):
        raise ChatError(f"{path} was written by a newer titan_nb: update titan_nb")
    held = _FIELDS.unpack(found[: _FIELDS.size])[2]
    if held != dimension:
        raise ChatError(f"{path} holds rows of {held} numbers, and {dimension} were expected")
