from __future__ import annotations

import os
from pathlib import Path

import pytest

from titan_nb import host


def test_the_process_is_named_by_boot_pid_and_start() -> None:
    boot, pid, start = host.process_id().rsplit(":", 2)
    assert boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert int(pid) == os.getpid()
    assert int(start) > 0


def test_a_forked_child_has_a_name_of_its_own() -> None:
    ours = host.process_id()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, host.process_id().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reader, 1000).decode()
    os.close(reader)
    os.close(writer)
    assert theirs.rsplit(":", 2)[1] == str(child)
    assert theirs != ours


def test_without_proc_the_name_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **kwargs: object) -> str:
        raise FileNotFoundError

    host.boot_id.cache_clear()
    host._process_id.cache_clear()
    monkeypatch.setattr(Path, "read_text", missing)
    try:
        assert host.process_id() == f"unknown-boot:{os.getpid()}:0"
    finally:
        host.boot_id.cache_clear()
        host._process_id.cache_clear()
