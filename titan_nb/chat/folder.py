"""The folder that a chat memory lives in: what is where, and who may write."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Literal

from titan_nb.chat.database import (
    DATABASE,
    NEW_DATABASE,
    explained,
    is_database,
    make_database,
    open_reader,
    open_writer,
    refuse_newer,
)
from titan_nb.chat.disk import disk_error, flush_folder
from titan_nb.chat.migrate import migrate
from titan_nb.chat.segment import Segment
from titan_nb.chat.writer_lock import WriterLock
from titan_nb.errors import ChatError, ResourceError

__all__ = ["Folder", "explained"]

_VECTORS = "vectors"
_LOCK = "lock"
_BEGUN = {
    _VECTORS,
    _LOCK,
    NEW_DATABASE,
    f"{NEW_DATABASE}-journal",
    f"{NEW_DATABASE}-wal",
    f"{NEW_DATABASE}-shm",
}
"""All that there may be where a folder was begun and its process killed."""


class Folder:
    """A memory's folder: ``memory.sqlite3``, ``vectors/NNNN.rows`` and ``lock``, for its owner only.

    Made by `open`. It belongs to the process that opened it, not to children forked from it.

    Args:
        path: The folder.
        mode: ``"w"``, or ``"r"`` to read only.
        lock: What keeps other writers out; None for a reader.
    """

    def __init__(self, path: Path, mode: Literal["w", "r"], lock: WriterLock | None) -> None:
        self.path = path
        self.mode = mode
        self._lock = lock
        self._process = os.getpid()
        # SQLite removes its log when the last connection closes.
        self.unclean = path.joinpath(f"{DATABASE}-wal").exists()
        """Whether the last writer may have ended without `close`."""

    @classmethod
    def open(cls, path: str | os.PathLike[str], mode: Literal["w", "r"] = "w") -> Folder:
        """Open a memory's folder; for writing it is made where there is none.

        Raises:
            ChatError: If it is something else (it is left untouched then), another process writes to it, the
                file system has no locks, a newer titan_nb wrote it, or it cannot be read or written.
            ResourceError: If the disk is full.
        """
        folder = Path(path).expanduser().absolute()
        _refuse_other(folder, mode)
        if mode == "r":
            return cls(folder, mode, None)
        try:
            _make(folder)
            lock = WriterLock.take(folder / _LOCK)
        except OSError as error:
            raise _not_writable(error, folder) from error
        try:
            if not (folder / DATABASE).exists():
                make_database(folder)
            opened = cls(folder, mode, lock)
            opened._bring_up_to_date()
        except BaseException as error:
            lock.release()
            if isinstance(error, OSError):
                raise _not_writable(error, folder) from error
            if isinstance(error, sqlite3.Error):
                raise explained(error, folder) from error
            raise
        return opened

    @staticmethod
    def holds_memory(path: Path) -> bool:
        """Return whether ``path`` is the folder of a chat memory."""
        return is_database(path / DATABASE)

    def connect(self) -> sqlite3.Connection:
        """Return a connection to the database, in autocommit; any thread may use it, one at a time.

        A commit returns when it is on the disk (WAL, synchronous FULL). A reader's connection writes nothing.

        Raises:
            ChatError: If the database cannot be opened.
            ResourceError: If the disk is full.
        """
        self.check_process()
        database = self.path / DATABASE
        return open_reader(database) if self.mode == "r" else open_writer(database)

    def segment(self, number: int, dimension: int, count: int) -> Segment:
        """Open the file of a chunk, of which the first ``count`` rows count.

        Raises:
            ChatError: As `Segment.open`; from a `FileNotFoundError` where the file is not there, which a
                reader meets when the writer has compacted: it reads the catalogue again then.
        """
        self.check_process()
        return Segment.open(self.segment_path(number), dimension, count)

    def new_segment(self, number: int, dimension: int) -> Segment:
        """Make the file of a new chunk.

        Raises:
            ChatError: If it cannot be made.
            ResourceError: If the disk is full.
        """
        # A number that is new to the catalogue: what lies there is left from a write that was never finished.
        self.remove(number)
        return Segment.create(self.segment_path(number), dimension)

    def remove(self, number: int) -> None:
        """Remove the file of a chunk that the catalogue does not name, if it is there.

        Raises:
            ChatError: If it cannot be removed.
        """
        self.check_process()
        try:
            self.segment_path(number).unlink(missing_ok=True)
        except OSError as error:
            raise disk_error(error, "removing a file of rows", self.path) from error

    def numbers(self) -> set[int]:
        """Return the numbers of the chunks that have a file."""
        stems = (path.stem for path in (self.path / _VECTORS).glob("*.rows"))
        return {int(stem) for stem in stems if stem.isascii() and stem.isdigit()}

    def segment_path(self, number: int) -> Path:
        """Return where the file of a chunk is."""
        return self.path / _VECTORS / f"{number:04d}.rows"

    def check_process(self) -> None:
        """Refuse to go on in a child forked from the process that opened the folder.

        Raises:
            ChatError: If this is one: two processes with one connection would destroy each other's rows.
        """
        if os.getpid() != self._process:
            raise ChatError(
                f"the memory in {self.path} was opened by process {self._process}, from which this one was "
                "forked: open it here with mode='r', or hand the rows back to that process"
            )

    def close(self) -> None:
        """Let other writers in; connections and segments are closed before."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _bring_up_to_date(self) -> None:
        connection = self.connect()
        try:
            refuse_newer(int(connection.execute("PRAGMA user_version").fetchone()[0]), self.path)
            migrate(connection)
        finally:
            connection.close()


def _refuse_other(folder: Path, mode: str) -> None:
    """Refuse a path that is neither a memory nor free for one."""
    try:
        if not folder.exists():
            names = set()
        elif not folder.is_dir():
            raise ChatError(f"{folder} is a file: give a folder")
        elif Folder.holds_memory(folder):
            return
        else:
            names = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise ChatError(f"{folder} cannot be read ({os.strerror(error.errno or 0)})") from error
    database = folder / DATABASE
    if DATABASE in names:
        readable = os.access(database, os.R_OK)
        problem = "is no database of titan_nb" if readable else "cannot be read with your rights"
        raise ChatError(f"{database} {problem}, and was left as it is: give another folder")
    if mode == "r":
        raise ChatError(f"there is no memory in {folder}: mode 'r' reads one that is there")
    if not names <= _BEGUN:
        raise ChatError(
            f"{folder} holds other things and no memory, and was left as it is: give a new or empty folder"
        )


def _make(folder: Path) -> None:
    for one in reversed([one for one in (folder, *folder.parents) if not one.exists()]):
        # The folders on the way are as the user's umask says; the memory is for its owner only.
        one.mkdir(mode=0o700 if one == folder else 0o777, exist_ok=True)
        flush_folder(one.parent)
    vectors = folder / _VECTORS
    if not vectors.is_dir():
        vectors.mkdir(mode=0o700)
        flush_folder(folder)


def _not_writable(error: OSError, folder: Path) -> ChatError | ResourceError:
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        reads = ", or read it with mode='r'" if Folder.holds_memory(folder) else ""
        return ChatError(f"{folder} cannot be written to ({os.strerror(error.errno)}): give another{reads}")
    return disk_error(error, "making a memory", folder)
