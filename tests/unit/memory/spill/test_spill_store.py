"""Where the bytes are meanwhile, and what happens when that place fails."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from titan_nb import host
from titan_nb.memory.spill import SpillError, folder, spill, store
from titan_nb.memory.spill.folder import private_folder


def _files() -> list[Path]:
    return sorted(private_folder().iterdir())


def _reason(x: torch.Tensor) -> str:
    done = spill(x, disk=True)
    assert done.moved == ()
    assert torch.equal(x, torch.arange(3000.0))
    assert _files() == []
    return done.refused[0].reason


def _tensor() -> torch.Tensor:
    """Made in each test: what a fixture returns is held by the very call of the test."""
    return torch.arange(3000.0)


def test_the_file_is_private_and_goes_with_the_tensor() -> None:
    x = _tensor()
    spill(x, disk=True)
    (path,) = _files()
    assert path.stat().st_size == 12000
    assert private_folder().stat().st_mode & 0o77 == 0
    x.sum()
    assert _files() == []
    spill(x, disk=True)
    assert len(_files()) == 1
    del x
    assert _files() == []


def test_bytes_larger_than_a_chunk_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _tensor()
    monkeypatch.setattr(store, "_CHUNK_BYTES", 5000)
    spill(x, disk=True)
    assert torch.equal(x, torch.arange(3000.0))


def test_a_file_that_is_missing_is_named_with_its_tensor() -> None:
    x = _tensor()
    spill(x, disk=True, names=["x"])
    (path,) = _files()
    hidden = path.rename(path.with_suffix(".hidden"))
    for _ in range(2):
        with pytest.raises(SpillError, match=r"x was spilled to disk and cannot be read back: No such file"):
            x.sum()
    hidden.rename(path)
    assert torch.equal(x, torch.arange(3000.0))


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"x", lambda b: b"x" + b[1:]])
def test_a_file_that_was_changed_is_never_used(change: Callable[[bytes], bytes]) -> None:
    x = _tensor()
    spill(x, disk=True, names=["x"])
    (path,) = _files()
    good = path.read_bytes()
    path.write_bytes(change(good))
    with pytest.raises(SpillError, match="x was spilled to disk and its file has changed"):
        x.sum()
    path.write_bytes(good)
    assert torch.equal(x, torch.arange(3000.0))


def test_a_full_disk_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _tensor()
    usage = type("Usage", (), {"free": 11999})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    assert _reason(x) == "the disk has 11.7 KiB left"


def test_a_disk_that_fills_up_while_writing_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _tensor()

    def full(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("zlib.crc32", full)
    assert _reason(x) == "No space left on device"


def test_an_interrupt_leaves_the_tensor_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    x = _tensor()

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("zlib.crc32", interrupted)
        with pytest.raises(KeyboardInterrupt):
            spill(x, disk=True)
    assert type(x) is torch.Tensor
    assert torch.equal(x, torch.arange(3000.0))
    assert _files() == []
    spill(x, disk=True)
    with monkeypatch.context() as patch:
        patch.setattr("zlib.crc32", interrupted)
        with pytest.raises(KeyboardInterrupt):
            x.sum()
    assert torch.equal(x, torch.arange(3000.0))


def test_a_folder_in_memory_is_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "_made", None)
    monkeypatch.setattr(folder, "_file_system", lambda path: "tmpfs")
    done = spill(torch.ones(3), disk=True)
    assert "set TMPDIR to a folder on a disk" in done.refused[0].reason


def test_a_forked_child_reads_the_file_and_leaves_it(in_child: Callable[[Callable[[], bool]], bool]) -> None:
    x = _tensor()
    spill(x, disk=True)

    def check() -> bool:
        before = private_folder()  # the child has one of its own
        same = float(x[2999]) == 2999.0
        folder._remove(os.getppid(), before)
        return same

    assert in_child(check)
    assert len(_files()) == 1
    assert torch.equal(x, torch.arange(3000.0))


def test_nothing_is_left_at_the_end_of_the_process(tmp_path: Path) -> None:
    code = (
        "import os, torch\nfrom titan_nb.memory.spill import spill\n"
        "x = torch.ones(3000)\nspill(x, disk=True)\nprint(len(os.listdir(os.environ['TMPDIR'])))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert [*tmp_path.iterdir()] == []


def test_what_killed_processes_left_is_removed_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, pid, start = folder._owner().rsplit("-", 2)
    names = {
        f"titan-spill-{machine}-{pid}-{start}-alive": True,
        f"titan-spill-{machine}-{pid}-1-reused": False,
        f"titan-spill-{machine}-4194999-77-dead": False,
        f"titan-spill-{machine}-4194999-0-unknown": True,
        f"titan-spill-other{machine}-4194999-77-elsewhere": True,
        f"titan-spill-{machine}-odd": True,
    }
    for name in names:
        (tmp_path / name).mkdir()
    folder._remove_abandoned(tmp_path)
    assert {name: (tmp_path / name).exists() for name in names} == names
    assert host.process_id().split(":")[1] == str(os.getpid())
