"""The SQLite database of a memory's folder: made whole, opened durably, its errors in plain words."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from titan_nb.chat.disk import disk_error, flush_folder
from titan_nb.chat.migrate import FORMAT
from titan_nb.errors import ChatError, ResourceError

__all__ = [
    "DATABASE",
    "NEW_DATABASE",
    "explained",
    "is_database",
    "make_database",
    "open_reader",
    "open_writer",
    "refuse_newer",
]

DATABASE = "memory.sqlite3"
NEW_DATABASE = "memory.sqlite3.new"

_APPLICATION_ID = 0x7469746E
"""Says in the head of the file whose it is; see ``PRAGMA application_id``."""

_BUSY_SECONDS = 5.0
_LOG_BYTES = 4 << 20
_WRITER = (
    "synchronous=FULL",
    "fullfsync=ON",
    "checkpoint_fullfsync=ON",
    f"journal_size_limit={_LOG_BYTES}",
)


def is_database(path: Path) -> bool:
    """Return whether a file is the database of a memory; nothing is written beside it.

    SQLite must read it: a descriptor of one's own, when it is closed, ends all locks that this process has on
    the file, and whoever opens the database next then removes the log under the writer's feet.
    """
    if not path.is_file():
        return False
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
        try:
            found: int = connection.execute("PRAGMA application_id").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        # Cut short while its log was being written back, it is whole only together with the log.
        found = _written_application_id(path)
    return found == _APPLICATION_ID


def _written_application_id(path: Path) -> int:
    """Return what stands in the head of a file, at 68 (https://www.sqlite.org/fileformat.html), 0 if nothing.

    Its descriptor stays open for good, see `is_database`; few files are ever in such a state.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        head = os.pread(descriptor, 72, 0)
    except OSError:
        return 0
    return int.from_bytes(head[68:72], "big") if head.startswith(b"SQLite format 3\0") else 0


def make_database(folder: Path) -> None:
    """Make an empty database, under another name first, so that it is there as a whole or not at all.

    Raises:
        ChatError: If the file system has no shared memory for SQLite's log.
        OSError: If it cannot be made.
        sqlite3.Error: If SQLite cannot make it.
    """
    new = folder / NEW_DATABASE
    for leftover in (new, new.with_name(f"{NEW_DATABASE}-journal")):
        leftover.unlink(missing_ok=True)
    # SQLite gives the files beside the database the rights that it has.
    os.close(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    marks = (f"application_id={_APPLICATION_ID}", f"user_version={FORMAT}")
    made = _connection(new, "mode=rw", *_WRITER, *marks)
    try:
        mode = made.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    finally:
        made.close()
    if mode != "wal":
        raise ChatError(
            f"the file system of {folder} has no shared memory, which SQLite's log needs: use a folder on a "
            "local disk"
        )
    new.replace(folder / DATABASE)
    flush_folder(folder)


def open_writer(database: Path) -> sqlite3.Connection:
    """Return a connection in autocommit, whose commits are on the disk when they return.

    Raises:
        ChatError: If it cannot be opened.
        ResourceError: If the disk is full.
    """
    try:
        return _connection(database, "mode=rw", *_WRITER)
    except sqlite3.Error as error:
        raise explained(error, database.parent) from error


def open_reader(database: Path) -> sqlite3.Connection:
    """Return a connection that writes nothing; in a folder without rights to write, one without locks.

    Raises:
        ChatError: If it cannot be opened, or has another format.
    """
    try:
        try:
            connection = _connection(database, "mode=ro", "query_only=ON")
        except sqlite3.OperationalError:
            # SQLite's log needs a shared index beside it, which cannot be made here.
            if os.access(database.parent, os.W_OK):
                raise
            if _log_bytes(database):
                raise ChatError(
                    f"the memory in {database.parent} was not closed, and to read it then, its folder "
                    "must be writable: open it once where it is, or copy the folder and open the copy"
                ) from None
            # Without a log the file is all there is, and its owner has closed it.
            connection = _connection(database, "immutable=1", "query_only=ON")
    except sqlite3.Error as error:
        raise explained(error, database.parent) from error
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version != FORMAT:
        connection.close()
        refuse_newer(version, database.parent)
        raise ChatError(
            f"the memory in {database.parent} has an old format ({version}, and now it is {FORMAT}): open it "
            "once for writing, which brings it up to date"
        )
    return connection


def refuse_newer(version: int, folder: Path) -> None:
    """Refuse a format that this version does not know.

    Raises:
        ChatError: If it is newer.
    """
    if version > FORMAT:
        raise ChatError(
            f"the memory in {folder} was written by a newer titan_nb (format {version}; this one knows up to "
            f"{FORMAT}): update titan_nb"
        )


def explained(error: sqlite3.Error, folder: Path) -> ChatError | ResourceError:
    """Return the error to raise, with ``error`` as its cause, where SQLite could not do something."""
    text = str(error)
    if "full" in text:
        return disk_error(OSError(errno.ENOSPC, text), "storing texts", folder)
    if "locked" in text or "busy" in text:
        return ChatError(f"the memory in {folder} is busy ({text}): try again in a moment")
    if "malformed" in text or "not a database" in text:
        return ChatError(
            f"{folder / DATABASE} is damaged ({text}): bring back a copy, or save its texts with the "
            ".recover of the sqlite3 program"
        )
    return ChatError(f"the database in {folder} failed ({text}): check the disk, and your rights there")


def _log_bytes(database: Path) -> int:
    log = database.with_name(f"{database.name}-wal")
    return log.stat().st_size if log.exists() else 0


def _connection(database: Path, how: str, *pragmas: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{database.as_uri()}?{how}",
        uri=True,
        timeout=_BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
        # The first look at the file: damage and missing rights show here.
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection
