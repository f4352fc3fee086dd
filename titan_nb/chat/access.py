"""Who may look at a local memory, and change it, at which moment."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from titan_nb.chat.catalog import Catalog
from titan_nb.chat.contents import Contents
from titan_nb.errors import ChatError, ResourceError

if TYPE_CHECKING:
    from titan_nb.chat.chunk import Files
    from titan_nb.chat.folder import Folder
    from titan_nb.chat.recover import Recovered

__all__ = ["TRIES", "Access"]

T = TypeVar("T")

TRIES = 3
"""How often something is looked for again that changed while it was looked at."""


class Access:
    """Lets one thread at a time at the catalogue and contents of a memory, and keeps the two in line.

    SQLite has the last word on what is stored: a change that was cut short, wherever it was, has happened as
    a whole or not at all, and the contents are brought in line with the catalogue before anybody looks.

    Args:
        folder: Where the memory is kept; None keeps it in this process.
        scratch: Where files of rows are without a folder.

    Attributes:
        catalog: To be used in `read` and `write` only.
        contents: The same.
        lock: Held by both of them.
        recovered: What a failing disk has cost, as far as it was found; nearly always nothing.

    Raises:
        ChatError: If the catalogue cannot be read.
        ResourceError: If the disk is full.
    """

    def __init__(self, folder: Folder | None, scratch: Files) -> None:
        self.recovered: tuple[Recovered, ...] = ()
        self.lock = threading.RLock()
        self.contents = Contents(folder or scratch, durable=folder is not None)
        self._folder = folder
        self._reads_only = folder is not None and folder.mode == "r"
        self._process = os.getpid()
        self._torn = False
        self._seen_version: int | None = None
        try:
            connection = _in_memory() if folder is None else folder.connect()
        except BaseException:
            if folder is not None:
                folder.close()
            raise
        self._let_go = weakref.finalize(self, _let_go, self._process, connection, folder)
        try:
            self.catalog = Catalog(connection, read_only=self._reads_only)
            if folder is not None and not self._reads_only:
                from titan_nb.chat.recover import recover

                self.recovered = recover(connection, folder)
            self.contents.load(self.catalog)
        except (sqlite3.Error, MemoryError) as error:
            self._let_go()
            raise self._explained(error) from error
        except BaseException:
            self._let_go()
            raise

    def write(self, change: Callable[[], T]) -> T:
        """Run what changes the memory: as a whole or not at all.

        Raises:
            ChatError: If it may not be changed, or ``change`` says so.
            ResourceError: If memory or disk is short.
        """
        self._refuse_child()
        with self.lock:
            self._check()
            if self._folder is not None and self._reads_only:
                raise ChatError(
                    f"the memory in {self._folder.path} was opened with mode='r': open it with mode='w' to "
                    "change it"
                )
            self._torn = True
            try:
                result = change()
            except BaseException as error:
                # Where that cannot be done either, the next call does it.
                with contextlib.suppress(sqlite3.Error, MemoryError, ChatError):
                    self._mend()
                if isinstance(error, (sqlite3.Error, MemoryError)):
                    raise self._explained(error) from error
                raise
            self._torn = False
            return result

    def read(self, look: Callable[[], T]) -> T:
        """Run what looks at the memory: at one moment.

        Raises:
            ChatError: If it cannot be read, or ``look`` says so.
        """
        self._refuse_child()
        with self.lock:
            self._check()
            try:
                return self._read_folder(look) if self._reads_only else look()
            except (sqlite3.Error, MemoryError) as error:
                raise self._explained(error) from error

    def verify(self) -> tuple[Recovered, ...]:
        """Check every row in the folder against its checksum; see `titan_nb.chat.recover.verify`.

        Raises:
            ChatError: If the catalogue is damaged.
            ResourceError: If the disk is full.
        """
        if self._folder is None:
            return ()
        from titan_nb.chat.recover import verify

        self._refuse_child()
        with self.lock:
            self._check()
            try:
                # If anything is taken out, the next call brings what is in memory in line.
                self._torn = not self._reads_only
                found = verify(self.catalog.connection, self._folder)
            except (sqlite3.Error, MemoryError) as error:
                raise self._explained(error) from error
            if not self._reads_only:
                self._torn = bool(found)
                self.recovered += found
            return found

    def close(self) -> None:
        """Let go of catalogue and folder."""
        with self.lock:
            self._let_go()

    def _read_folder(self, look: Callable[[], T]) -> T:
        """Look at what another process may be changing."""
        catalog = self.catalog
        catalog.rollback()  # what an interrupted look has left
        for attempt in range(TRIES):
            catalog.begin()
            try:
                version = catalog.data_version()
                if version != self._seen_version:
                    self.contents.load(catalog)
                    self._seen_version = version
                return look()
            except ChatError as error:
                # A file that was compacted away just now: the catalogue names another already.
                if attempt == TRIES - 1 or not isinstance(error.__cause__, FileNotFoundError):
                    raise
            finally:
                catalog.rollback()
        raise AssertionError

    def _refuse_child(self) -> None:
        # Without the lock, which another thread of the parent may have held when this process was forked.
        if os.getpid() != self._process:
            if self._folder is not None:
                self._folder.check_process()
            raise ChatError(
                f"this memory belongs to process {self._process}, from which this one was forked: make "
                "another ChatMemory() here, or give the rows back to that process"
            )

    def _check(self) -> None:
        if not self._let_go.alive:
            raise ChatError("this memory was closed: open it again")
        if (self._torn or self.catalog.connection.in_transaction) and self._interrupts():
            raise ChatError("this memory is in use by the call that this one interrupts: try again after it")
        if self._torn:
            try:
                self._mend()
            except (sqlite3.Error, MemoryError) as error:
                raise self._explained(error) from error

    def _interrupts(self) -> bool:
        """Say whether this is done by a finaliser or signal handler, in the middle of another call."""
        frame = sys._getframe(2).f_back
        while frame is not None:
            if frame.f_code in _CALLS and frame.f_locals.get("self") is self:
                return True
            frame = frame.f_back
        return False

    def _mend(self) -> None:
        """Bring the contents in line with the catalogue, after a change that was cut short."""
        self.catalog.rollback()
        self.contents.load(self.catalog)
        self.contents.settle()
        self._torn = False

    def _explained(self, error: sqlite3.Error | MemoryError) -> ChatError | ResourceError:
        """Return the error to raise for what SQLite or an allocator said."""
        if isinstance(error, MemoryError):
            reason = str(error) or "SQLite could have no more"
            return ResourceError(
                f"memory is short on the host ({reason}), and nothing was changed: free memory, forget what "
                "is no longer needed, or keep the memory in a folder",
                requested_bytes=None,
                available_bytes=None,
                device="cpu",
            )
        if self._folder is None:
            return ChatError(f"SQLite cannot keep this ({error}), and nothing was changed")
        from titan_nb.chat.database import explained

        return explained(error, self._folder.path)


_CALLS = {Access.write.__code__, Access.read.__code__, Access.verify.__code__}


def _in_memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    # What SQLite sorts or rewrites would otherwise go to a file that nobody asked for.
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _let_go(process: int, connection: sqlite3.Connection, folder: Folder | None) -> None:
    # A forked child ends too, and both are its parent's.
    if os.getpid() == process:
        connection.close()
        if folder is not None:
            folder.close()
