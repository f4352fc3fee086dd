from __future__ import annotations

import os
import sys
import threading

import pytest

from titan_nb.memory.forecast.refusals import Refusals, Refused


@pytest.fixture
def refusals() -> Refusals:
    return Refusals(lambda: 7)


@pytest.mark.parametrize(
    ("event", "arguments", "what"),
    [
        ("open", ("a.txt", "w", os.O_WRONLY | os.O_CREAT), "write to 'a.txt'"),
        ("open", (b"a.txt", None, os.O_RDWR), "write to 'a.txt'"),
        ("open", (5, None, os.O_APPEND), "write to a file"),
        ("os.remove", ("a.txt", -1), "delete 'a.txt'"),
        ("os.truncate", (3, 0), "truncate a file"),
        ("socket.connect", (None, ("127.0.0.1", 80)), "use the network"),
        ("os.posix_spawn", ("ls", [], None), "start a program or another process"),
        ("os.kill", (1, 9), "send a signal to another process"),
    ],
)
def test_it_refuses_by_pythons_own_events(
    refusals: Refusals, event: str, arguments: tuple[object, ...], what: str
) -> None:
    with pytest.raises(Refused, match=r"^a dry run does not "):
        refusals._audit(event, arguments)
    with pytest.raises(PermissionError):
        refusals._audit(event, arguments)
    assert refusals.seen == [(7, what)], "once for each line"


@pytest.mark.parametrize(
    ("event", "arguments"),
    [
        ("open", ("a.txt", "r", os.O_RDONLY)),
        ("open", (os.devnull, "w", os.O_WRONLY)),
        ("os.kill", (os.getpid(), 9)),
        ("os.listdir", (".",)),
        ("import", ("json",)),
    ],
)
def test_it_lets_pass(refusals: Refusals, event: str, arguments: tuple[object, ...]) -> None:
    refusals._audit(event, arguments)
    assert refusals.seen == []


def test_a_loop_of_refusals_is_not_told_without_end(refusals: Refusals) -> None:
    for number in range(100):
        with pytest.raises(Refused):
            refusals.refuse(f"write to {number}")
    assert len(refusals.seen) == 20


def test_beginning(refusals: Refusals, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks: list[object] = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(threading.Thread, "start", threading.Thread.start)
    refusals.begin()
    assert hooks == [refusals._audit]
    assert sys.dont_write_bytecode
    with pytest.raises(Refused, match="start a thread"):
        threading.Thread(target=print).start()
