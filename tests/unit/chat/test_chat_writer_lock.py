"""One process writes to a folder; who else wants to is told which."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.chat.folders import in_process, made, notes
from titan_nb.chat.folder import Folder
from titan_nb.errors import ChatError


def test_a_second_writer_in_this_process_is_refused(folder: Folder, place: Path) -> None:
    with pytest.raises(ChatError, match=rf"this process \({os.getpid()}\) has it open already"):
        Folder.open(place)
    # Had the refusal opened and closed the lock's file, the lock would be gone now.
    answer = in_process(
        "try:\n    Folder.open(sys.argv[1])\nexcept ChatError as error:\n    print(error)", place
    )
    expected = f"process {os.getpid()} on {socket.gethostname()}: read with mode='r', write through that one"
    assert expected in answer
    folder.close()
    Folder.open(place).close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x", "host": 1}', b"\xff"])
def test_a_writer_that_cannot_be_named(place: Path, content: bytes) -> None:
    made(place)
    with place.joinpath("lock").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        file.truncate(0)
        file.write(content)
        file.flush()
        # A record lock keeps only other processes out.
        fcntl.lockf(file, fcntl.LOCK_EX)
        script = "try:\n    Folder.open(sys.argv[1])\nexcept ChatError as error:\n    print(error)"
        assert "an unknown process: read with mode='r'" in in_process(script, place)


def test_a_killed_writer_leaves_no_lock_but_its_log(place: Path) -> None:
    made(place)
    script = (
        "folder = Folder.open(sys.argv[1])\nconnection = folder.connect()\n"
        "connection.execute(\"INSERT INTO notes VALUES ('more')\")\nos.kill(os.getpid(), 9)"
    )
    head = "import os, sys\nfrom titan_nb.chat.folder import Folder\n"
    done = subprocess.run([sys.executable, "-c", head + script, str(place)], timeout=60)
    assert done.returncode == -9
    reader = Folder.open(place, "r")
    assert reader.unclean
    assert notes(reader) == ["kept", "more"]
    folder = Folder.open(place)
    assert folder.unclean
    assert notes(folder) == ["kept", "more"]
    folder.close()


def test_a_forked_child_is_refused_and_does_not_take_the_lock_with_it(folder: Folder, place: Path) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answers = []
            for action in (folder.connect, lambda: Folder.open(place), lambda: folder.segment(1, 1, 0)):
                try:
                    action()
                    answers.append("done")
                except ChatError as error:
                    answers.append(str(error))
            folder.close()
            os.write(write, json.dumps(answers).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write)
    with os.fdopen(read) as answer:
        connect, opened, segment = json.load(answer)
    assert f"was opened by process {os.getpid()}, from which this one was forked" in connect
    assert segment == connect
    assert f"process {os.getpid()} on " in opened
    script = "try:\n    Folder.open(sys.argv[1])\nexcept ChatError as error:\n    print('refused')"
    assert in_process(script, place) == "refused\n"


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(place: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def lockf(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(ChatError, match=r"has no locks \(.*\).* use a folder on a local disk"):
        Folder.open(place)


def test_a_lock_that_fails_otherwise(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with pytest.raises(ChatError, match="Input/output error"):
        Folder.open(place)
