"""Which requests are made of the operating system; what they do is seen in whole forecasts."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from titan_nb.memory.forecast import sandbox

MAPS = """\
7f0000000000-7f0000002000 rw-s 00000000 00:01 5 /dev/zero (deleted)
7f0000002000-7f0000003000 r--s 00000000 00:01 6 /usr/lib/cache
7f0000003000-7f0000004000 rw-p 00000000 00:00 0
{semaphore} rw-s 00000000 00:01 7 /dev/shm/sem.abc (deleted)
"""


class Library:
    """Stands in for the C library and remembers what was asked."""

    def __init__(self, version: int = 7, ruleset: int = 99) -> None:
        self.version, self.ruleset = version, ruleset
        self.asked: list[tuple[Any, ...]] = []
        self.rules: tuple[int, int, int, int] | None = None
        self.mmap = self._mmap

    def syscall(self, number: int, *arguments: Any) -> int:
        self.asked.append((number, *arguments))
        if number != 444:
            return 0
        if arguments[0] is None:
            return self.version
        rules = arguments[0]._obj
        self.rules = rules.files, rules.net, rules.scoped, arguments[1].value
        return self.ruleset

    def prctl(self, *arguments: Any) -> int:
        self.asked.append(("prctl", *arguments))
        return 0

    def mprotect(self, place: Any, size: Any, rights: int) -> int:
        self.asked.append(("mprotect", place.value, size.value, rights))
        return 0

    class _Function:
        restype: Any = None

        def __init__(self, asked: list[tuple[Any, ...]]) -> None:
            self.asked = asked

        def __call__(self, place: Any, size: Any, *_: Any) -> int:
            self.asked.append(("mmap", place.value, size.value))
            return int(place.value)

    @property
    def _mmap(self) -> Any:
        return self._Function(self.asked)


def _with(library: Library, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setattr(sandbox, "_c_library", lambda: library)
    return library


@pytest.mark.parametrize(
    ("version", "rules"),
    [
        (1, (0x1FF3, 0, 0, 8)),
        (2, (0x3FF3, 0, 0, 8)),
        (3, (0x7FF3, 0, 0, 8)),
        (5, (0x7FF3, 3, 0, 16)),
        (7, (0x7FF3, 3, 3, 24)),
    ],
)
def test_each_kernel_is_asked_for_what_it_knows(
    version: int, rules: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ruleset = os.open(os.devnull, os.O_RDONLY)
    library = _with(Library(version, ruleset), monkeypatch)
    sandbox._forbid_writes()
    assert library.rules == rules
    assert [one[0] for one in library.asked] == [444, 444, 445, "prctl", 446]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ruleset)


@pytest.mark.parametrize("library", [Library(version=-1), Library(ruleset=-1)])
def test_a_kernel_that_cannot_is_left_alone(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(library, monkeypatch)
    sandbox._forbid_writes()
    assert 446 not in [one[0] for one in library.asked]


def test_shared_memory_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    library = _with(Library(), monkeypatch)
    semaphore = ctypes.create_string_buffer(b"content", 32)
    start = ctypes.addressof(semaphore)
    maps = MAPS.format(semaphore=f"{start:x}-{start + 32:x}")
    monkeypatch.setattr(Path, "read_text", lambda path: maps)
    sandbox._cut_shared_memory()
    assert library.asked == [("mprotect", 0x7F0000000000, 0x2000, 1), ("mmap", start, 32)]
    assert semaphore.value == b"content"
    monkeypatch.setattr(Library._Function, "__call__", lambda *_: -1)
    sandbox._cut_shared_memory()
    assert semaphore.value == b"content"


def test_the_child_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    library = _with(Library(), monkeypatch)
    written: list[str] = []
    monkeypatch.setattr(Path, "write_text", lambda path, text: written.append(f"{path} {text}"))
    sandbox._die_before_the_parent()
    assert library.asked == [("prctl", 1, signal.SIGKILL, 0, 0, 0)]
    assert written == ["/proc/self/oom_score_adj 1000"]


def test_all_files_but_one_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    ranges: list[tuple[int, int]] = []
    doubled: list[int] = []
    monkeypatch.setattr(os, "closerange", lambda low, high: ranges.append((low, high)))
    monkeypatch.setattr(os, "dup2", lambda old, new: doubled.append(new))
    monkeypatch.setattr(sandbox, "_highest_descriptor", lambda: 99)
    opened: list[int] = []
    monkeypatch.setattr(os, "open", lambda *_: opened.append(1) or 5)
    sandbox._close_files(7)
    assert (ranges, doubled) == ([(3, 7), (8, 100)], [0, 1, 2])


def test_the_highest_descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    assert sandbox._highest_descriptor() >= descriptor
    os.close(descriptor)

    def refuse(path: Path) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert sandbox._highest_descriptor() == 4096


def test_signals_are_the_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    monkeypatch.setattr(signal, "set_wakeup_fd", calls.append)
    monkeypatch.setattr(signal, "signal", lambda *arguments: calls.append(arguments))
    for name in ("_close_files", "_die_before_the_parent", "_cut_shared_memory", "_forbid_writes"):
        monkeypatch.setattr(sandbox, name, lambda *_, name=name: calls.append(name))
    sandbox.cut_off(7)
    assert calls[:2] == [-1, (signal.SIGINT, signal.SIG_IGN)]
    assert calls[2:] == ["_close_files", "_die_before_the_parent", "_cut_shared_memory", "_forbid_writes"]
    del calls[:]
    monkeypatch.setattr("sys.platform", "darwin")
    sandbox.cut_off(7)
    assert calls[2:] == ["_close_files"]
