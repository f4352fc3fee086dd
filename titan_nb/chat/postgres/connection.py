"""Connections to one server, and what is told when it cannot be reached."""

from __future__ import annotations

import functools
import os
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from titan_nb.errors import ChatError, ResourceError

if TYPE_CHECKING:
    import psycopg
    from psycopg import Cursor

__all__ = ["Server", "Vector", "only_row"]

_KEPT_IDLE = 4
_CONNECT_SECONDS = 10
# The server ends what takes too long by itself; this much later it is taken for dead.
_GRACE_SECONDS = 5
# The least time after which a process that was stopped in a transaction gives its locks back.
_IDLE_SECONDS = 60


def only_row(cursor: Cursor[Any]) -> Any:
    """Return the row of a statement that always has one."""
    row = cursor.fetchone()
    if row is None:
        raise ChatError("the table titan_memory is empty: restore the database from a backup")
    return row


class Vector:
    """One row as a parameter of a query.

    Args:
        binary: The row as `to_binary` gives it.
    """

    def __init__(self, binary: bytes) -> None:
        self.binary = binary


class Server:
    """One database on one PostgreSQL server.

    Connections are made when they are needed, kept for the next use, and made anew when they broke. After a
    fork the child makes its own.

    Args:
        url: ``postgresql://user:password@host:port/database``.
        timeout_seconds: The most that one statement may take.

    Attributes:
        name: Host or folder of the socket, port and database: what it is called in messages.

    Raises:
        ChatError: If the address cannot be read, or psycopg is not installed.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        try:
            import psycopg
            from psycopg.conninfo import conninfo_to_dict
        except ImportError as error:
            raise ChatError(
                "a memory on PostgreSQL needs psycopg, which is missing: pip install 'titan_nb[postgres]'"
            ) from error
        try:
            self._settings: dict[str, Any] = dict(conninfo_to_dict(url))
        except psycopg.Error:
            # Without the cause: it repeats the address, and with it the password.
            raise ChatError(
                "an address of a server cannot be read: write postgresql://user:password@host:port/database, "
                "with signs such as @ : / in the password as %40 %3A %2F"
            ) from None
        settings = self._settings
        host = settings.get("host") or settings.get("hostaddr") or os.environ.get("PGHOST") or "localhost"
        port = settings.get("port") or os.environ.get("PGPORT") or "5432"
        database = (
            settings.get("dbname") or os.environ.get("PGDATABASE") or settings.get("user") or "postgres"
        )
        self.name = f"{host}:{port}/{database}"
        self._timeout_seconds = timeout_seconds
        self._idle: list[psycopg.Connection] = []
        self._inherited: list[psycopg.Connection] = []
        self._process = os.getpid()
        self._closed = False
        # Nobody is made to close a memory.
        weakref.finalize(self, _close, self._idle, self._process)
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Server {self.name}>"

    @contextmanager
    def transaction(self, begin: str) -> Iterator[Cursor[Any]]:
        """Run statements as a whole, or not at all where the block raises.

        Args:
            begin: The statements that begin it. They change nothing, so that they are said again over a new
                connection where an old one broke; what the last one returns can be fetched from the cursor.

        Raises:
            ChatError: If the server cannot be reached, is lost in between, or refuses a statement.
            ResourceError: If its disk or memory is full.
        """
        import psycopg

        cursor = self._begin(begin)
        connection = cursor.connection
        committing = False
        try:
            yield cursor
            committing = True
            connection.execute("COMMIT")
        except psycopg.Error as error:
            raise self._told(error, connection, committing) from error
        finally:
            self._give_back(connection)

    @contextmanager
    def outside(self) -> Iterator[Cursor[Any]]:
        """Run statements that PostgreSQL does not allow in a transaction, for as long as they take.

        Raises:
            ChatError: See `transaction`.
            ResourceError: See `transaction`.
        """
        import psycopg

        connection = self._connect(patient=True)
        try:
            yield connection.cursor()
        except psycopg.Error as error:
            raise self._told(error, connection, False) from error
        finally:
            connection.close()

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        with self._lock:
            self._forget_parents()
            self._closed = True
            _close(self._idle, self._process)

    def _begin(self, begin: str) -> Cursor[Any]:
        import psycopg

        while True:
            with self._lock:
                if self._closed:
                    raise ChatError(f"this memory on {self.name} was closed: open it again")
                self._forget_parents()
                idle = self._idle.pop() if self._idle else None
            connection = idle or self._connect()
            try:
                cursor = connection.cursor()
                cursor.execute(begin)
                while cursor.nextset():
                    pass
                return cursor
            except psycopg.Error as error:
                if idle is None or not _is_lost(error, connection):
                    self._give_back(connection)
                    raise self._told(error, connection, False) from error
                connection.close()
                # The server ended it while it was idle: perhaps it is back.
            except BaseException:
                connection.close()
                raise

    def _connect(self, patient: bool = False) -> psycopg.Connection:
        import psycopg

        seconds = self._timeout_seconds
        settings: dict[str, Any] = {
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": "titan_nb",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": int(1000 * (seconds + _GRACE_SECONDS)),
            **self._settings,
        }
        try:
            # Each statement is planned anew: a plan for any LIMIT would pass by the index of the fast search.
            connection = _impatient().connect(**settings, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise self._told(error, None, False) from error
        try:
            connection.adapters.register_dumper(Vector, _vector_dumper())
            if not patient:
                connection.limit_seconds = seconds + _GRACE_SECONDS
                idle = max(seconds, _IDLE_SECONDS)
                connection.execute(
                    f"SET statement_timeout = '{int(1000 * seconds)}ms'; "
                    f"SET idle_in_transaction_session_timeout = '{int(1000 * idle)}ms'"
                )
        except psycopg.Error as error:
            connection.close()
            raise self._told(error, None, False) from error
        except BaseException:
            connection.close()
            raise
        return connection  # type: ignore[no-any-return]

    def _give_back(self, connection: psycopg.Connection) -> None:
        from psycopg import Error
        from psycopg.pq import TransactionStatus

        try:
            if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        except Error:
            connection.close()
        with self._lock:
            self._forget_parents()
            if not connection.closed and not self._closed and len(self._idle) < _KEPT_IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _forget_parents(self) -> None:
        # A connection belongs to the process that made it: to close it in a child would end it there too.
        if self._process != os.getpid():
            self._process = os.getpid()
            self._inherited += self._idle
            self._idle.clear()

    def _told(
        self, error: psycopg.Error, connection: psycopg.Connection | None, committing: bool
    ) -> ChatError | ResourceError:
        """Return what to raise for an error of psycopg."""
        import psycopg

        errors = psycopg.errors
        what = str(error).strip().split("\n")[0]
        if connection is None:
            return ChatError(
                f"{self.name} cannot be reached ({what}): see that the server runs and the address is right; "
                "what was stored there is kept and can be found again when it is back"
            )
        if _is_lost(error, connection):
            if committing:
                return ChatError(
                    f"{self.name} was lost while it stored what was given ({what}): it holds all of it or "
                    "nothing; look when the server is back, before you store it again"
                )
            return ChatError(
                f"{self.name} was lost in the middle ({what}): nothing of this was done there, and what was "
                "stored before is kept; try again when the server is back"
            )
        if isinstance(error, (errors.DiskFull, errors.OutOfMemory, errors.InsufficientResources)):
            short = f"{self.name} is short of disk or memory ({what}): nothing of this was stored; make room"
            return ResourceError(short, requested_bytes=None, available_bytes=None, device=self.name)
        if isinstance(error, (errors.QueryCanceled, errors.LockNotAvailable)):
            return ChatError(
                f"{self.name} took longer than {self._timeout_seconds:g} s or was told to stop ({what}): "
                "nothing of this was done; try again, or open with a longer timeout_seconds"
            )
        return ChatError(f"{self.name} refused ({what}): nothing of this was done there")


def _is_lost(error: psycopg.Error, connection: psycopg.Connection) -> bool:
    # 57P: the server shuts down, or ends this connection; 25P03: it waited too long for our next statement.
    code = error.sqlstate or ""
    return connection.closed or code.startswith("57P") or code == "25P03"


def _close(connections: list[psycopg.Connection], process: int) -> None:
    while connections and process == os.getpid():
        connections.pop().close()


@functools.cache
def _vector_dumper() -> Any:
    from psycopg.adapt import Dumper
    from psycopg.pq import Format

    class VectorDumper(Dumper):
        format = Format.BINARY

        def dump(self, obj: Vector) -> bytes:
            return obj.binary

    return VectorDumper


@functools.cache
def _impatient() -> Any:
    import psycopg

    class ImpatientConnection(psycopg.Connection[Any]):
        """A connection that does not wait for ever for a server that has stopped answering."""

        limit_seconds = float("inf")

        def wait(self, gen: Any, *args: Any, **options: Any) -> Any:
            try:
                return super().wait(_until(gen, time.monotonic() + self.limit_seconds), *args, **options)
            except TimeoutError:
                self.pgconn.finish()
                raise psycopg.OperationalError("it does not answer") from None

    return ImpatientConnection


def _until(steps: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
    """Pass ``steps`` through up to the deadline; psycopg asks for them also while nothing comes."""
    ready = None
    while True:
        try:
            wanted = steps.send(ready)
        except StopIteration as end:
            return end.value
        ready = yield wanted
        if not ready and time.monotonic() > deadline:
            raise TimeoutError
