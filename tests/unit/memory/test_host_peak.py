from __future__ import annotations

import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from titan_nb.host import process_id
from titan_nb.memory import host_peak
from titan_nb.memory.host_peak import HostPeak

MB = 1 << 20
STATUS = "/proc/self/status"


def test_the_mark_follows_a_reset_here(blip: Callable[[int], None]) -> None:
    host = HostPeak()
    assert host.resettable
    host.take()
    blip(64 * MB)
    level = host.take()[f"ram:{process_id()}"]
    assert abs(level.peak_bytes - level.current_bytes - 64 * MB) < 2 * MB
    assert host.take()[host.key].peak_bytes < level.peak_bytes - 60 * MB
    host.close()


def test_the_levels_are_bytes(tmp_path: Path) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t    3000 kB\nVmRSS:\t    1000 kB\nThreads:\t1\n")
    host = HostPeak(str(status), str(tmp_path / "status2"))
    assert host.resident() == (1_024_000, "VmRSS")
    assert host.process_peak_bytes == 3_072_000
    status.write_text("VmHWM: nothing")
    assert host.process_peak_bytes == 3_072_000
    host.close()


def test_the_processs_own_maximum_survives_resets(blip: Callable[[int], None]) -> None:
    host = HostPeak()
    blip(96 * MB)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    host.take()
    host.take()
    peak = host.process_peak_bytes
    assert peak is not None
    assert peak >= before
    host.close()


def test_it_is_tried_once_and_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = []
    real = mmap.mmap
    monkeypatch.setattr(host_peak.mmap, "mmap", lambda *a, **k: trials.append(1) or real(*a, **k))
    host = HostPeak()
    assert host.resettable
    assert host.resettable
    host.close()
    assert host.resettable
    assert 1 <= len(trials) <= 3


def test_a_sandbox_that_takes_the_write_and_does_nothing(tmp_path: Path) -> None:
    clear_refs = tmp_path / "clear_refs"
    clear_refs.touch()
    host = HostPeak(STATUS, str(clear_refs))
    assert not host.resettable
    assert clear_refs.read_bytes() == b"5" * 6
    host.close()


def test_no_memory_for_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(host_peak.mmap, "mmap", refuse)
    host = HostPeak()
    assert not host.resettable
    host.close()


@pytest.mark.parametrize("text", [None, "", "garbage", "\nVmHWM: x kB\nVmRSS: y kB\n", "\nVmRSS: 12"])
def test_a_broken_status_is_read_through_psutil(tmp_path: Path, text: str | None) -> None:
    status = tmp_path / "status"
    if text is not None:
        status.write_text(text)
    host = HostPeak(str(status))
    assert not host.resettable
    found = host.resident()
    assert found is not None
    size_bytes, source = found
    assert source == "RSS from psutil"
    assert abs(size_bytes - psutil.Process().memory_info().rss) < 20 * MB
    assert host.process_peak_bytes is None
    host.close()


def test_nobody_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "Process", refuse)
    assert HostPeak(str(tmp_path / "none")).resident() is None


def test_a_mark_that_stops_working_is_tried_again(tmp_path: Path) -> None:
    host = HostPeak()
    assert host.resettable
    host._clear_refs.close()
    host._clear_refs._path = str(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        host.take()
    assert not host.resettable
    host.close()


def test_files_are_given_back(descriptors: Callable[[], list[str]]) -> None:
    before = descriptors()
    host = HostPeak()
    for _ in range(50):
        host.take()
        assert len(descriptors()) == len(before) + 2
        host.close()
        host.close()
    assert descriptors() == before


def test_a_number_that_now_means_the_users_file_is_left_alone(tmp_path: Path) -> None:
    host = HostPeak()
    host.take()
    assert host._clear_refs._opened is not None
    number = host._clear_refs._opened[0]
    mine = tmp_path / "mine"
    mine.write_text("precious")
    descriptor = os.open(mine, os.O_RDWR)
    os.dup2(descriptor, number)
    os.close(descriptor)
    host.take()
    host.close()
    assert mine.read_text() == "precious"
    assert os.fstat(number).st_ino == mine.stat().st_ino
    os.close(number)


def test_a_number_that_was_closed_is_opened_again() -> None:
    host = HostPeak()
    host.take()
    assert host._status._opened is not None
    os.close(host._status._opened[0])
    assert host.take()[host.key].current_bytes > 0
    host.close()


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, titan_nb.memory as m; p = m.Peaks(); p.open().close(); p.close(); "
        "print(sorted({'torch', 'psutil', 'numpy', 'pandas', 'pynvml', 'IPython'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
