from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.memory.ram import MB, near, ram, rise
from titan_nb.host import process_id
from titan_nb.memory import host_peak
from titan_nb.memory.host_peak import HostPeak
from titan_nb.memory.marks import Marks
from titan_nb.memory.peaks import Peaks, Scope
from titan_nb.memory.torch_peak import TorchPeak
from titan_nb.records import MemoryUse

pytestmark = pytest.mark.usefixtures("no_gpu")


@pytest.mark.parametrize("fault", ["missing status", "garbage status", "missing clear_refs", "denied"])
def test_a_broken_proc_is_sampled(
    sampler: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    garbage = tmp_path / "garbage"
    garbage.write_text("no such lines")
    status = {"missing status": tmp_path / "none", "garbage status": garbage}.get(fault)
    clear_refs = tmp_path / "none" if fault == "missing clear_refs" else None
    host = HostPeak(str(status or "/proc/self/status"), str(clear_refs or "/proc/self/clear_refs"))
    if fault == "denied":
        real = os.open

        def refuse(path: Any, *rest: Any) -> int:
            if str(path).endswith("clear_refs"):
                raise PermissionError(13, "Permission denied")
            return real(path, *rest)

        monkeypatch.setattr(host_peak.os, "open", refuse)
    peaks = Peaks(sampler.every, marks=Marks(host))
    scope = peaks.open()
    sampler.tick()
    row = ram(scope.close())
    name = "RSS from psutil" if "status" in fault else "VmRSS"
    assert (row.how, row.source) == ("sampled", f"{name} every 10 ms")
    assert row.before_bytes > MB
    peaks.close()


def test_a_mark_that_fails_in_the_middle_is_an_absent_device(tmp_path: Path) -> None:
    host = HostPeak()
    peaks = Peaks(marks=Marks(host))
    scope = peaks.open()
    host.close()
    host._clear_refs._path = str(tmp_path / "none")
    assert scope.close() == MemoryUse({})
    assert "FileNotFoundError" in peaks.failures["VmHWM"]
    assert ram(peaks.open().close()).how == "sampled"
    peaks.close()


def test_where_nothing_is_known_there_is_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostPeak(str(tmp_path / "none"))
    monkeypatch.setattr(host, "resident", lambda: None)
    peaks = Peaks(marks=Marks(host))
    assert peaks.open().close() == MemoryUse({})
    assert peaks.process_peak_bytes is None


def test_a_sampler_that_refuses() -> None:
    def refuse(seconds: float, job: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("stopped")

    marks = Marks()
    other = Peaks(refuse, marks=marks)
    row = ram(other.open(exact_host=False).close())
    assert (row.how, row.source) == ("sampled", "VmRSS at start and end")
    assert other.failures == {"sampler": "RuntimeError: stopped"}
    other.close()


def test_a_cancel_that_fails() -> None:
    def cancel() -> None:
        raise RuntimeError("gone")

    peaks = Peaks(lambda seconds, job: cancel, marks=Marks())
    assert ram(peaks.open(exact_host=False).close()).how == "sampled"
    assert peaks.failures == {"sampler": "RuntimeError: gone"}
    peaks.close()


def test_a_dropped_scope_stops_its_sampling(sampler: Any) -> None:
    peaks = Peaks(sampler.every, marks=Marks())
    scope: Scope | None = peaks.open(exact_host=False)
    assert len(sampler.jobs) == len(peaks._marks.scopes) == 1
    del scope
    gc.collect()
    assert len(peaks._marks.scopes) == 0
    sampler.tick()
    assert sampler.jobs == []
    peaks.close()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1, None, "5", 1e30, 10**30])
def test_nonsense_from_the_allocator_is_an_absent_device(allocator: Any, bad: Any) -> None:
    peaks = Peaks(marks=Marks(torch=TorchPeak(lambda: allocator)))
    scope = peaks.open()
    allocator.fault = lambda: bad
    assert set(scope.close().devices) == {f"ram:{process_id()}"}
    assert "gpu:GPU-a" in peaks.failures["torch CUDA allocator"]
    allocator.fault = None
    assert "gpu:GPU-a" in peaks.open().close().devices
    peaks.close()


def test_a_stuck_allocator_does_not_hang_another_thread(allocator: Any) -> None:
    peaks = Peaks(marks=Marks(torch=TorchPeak(lambda: allocator)))
    peaks.open().close()
    stuck, release = threading.Event(), threading.Event()

    def hang() -> int:
        stuck.set()
        release.wait(10)
        return 0

    allocator.fault = hang
    thread = threading.Thread(target=lambda: peaks.open().close())
    thread.start()
    assert stuck.wait(5)
    started = time.perf_counter()
    assert peaks.open().close() == MemoryUse({})
    assert time.perf_counter() - started < 1.0
    release.set()
    thread.join(10)
    allocator.fault = None
    assert "gpu:GPU-a" in peaks.open().close().devices
    peaks.close()


def test_an_interrupt_leaves_no_lock_and_no_scope_behind(allocator: Any) -> None:
    peaks = Peaks(marks=Marks(torch=TorchPeak(lambda: allocator)))

    def interrupt() -> int:
        raise KeyboardInterrupt

    allocator.fault = interrupt
    with pytest.raises(KeyboardInterrupt):
        peaks.open()
    allocator.fault = None
    gc.collect()
    assert len(peaks._marks.scopes) == 0
    found: list[MemoryUse] = []
    thread = threading.Thread(target=lambda: found.append(peaks.open().close()))
    thread.start()
    thread.join(10)
    assert "gpu:GPU-a" in found[0].devices
    peaks.close()


def test_closing_gives_the_files_back(descriptors: Callable[[], list[str]]) -> None:
    before = descriptors()
    peaks = Peaks(marks=Marks())
    for _ in range(20):
        late = peaks.open()
        peaks.open().close()
        peaks.close()
        assert ram(late.close()).how == "exact"
        assert descriptors() == before


def test_a_forked_child_reads_and_writes_nothing(
    peaks: Peaks,
    blip: Callable[[int], None],
    in_child: Callable[[Callable[[], bool]], bool],
    descriptors: Callable[[], list[str]],
) -> None:
    scope = peaks.open()
    blip(80 * MB)

    def child() -> bool:
        kept = descriptors()
        empty = MemoryUse({})
        fresh = peaks.open()
        found = [scope.close(), fresh.close(), peaks.open(exact_host=False).close()]
        peaks.close()
        return found == [empty] * 3 and peaks.process_peak_bytes is None and (descriptors() == kept)

    assert in_child(child)
    # Had the child reset the mark through the inherited file, the block would be forgotten.
    assert near(rise(scope.close()), 80 * MB)


def test_a_child_stops_no_sampling_of_its_parent(
    in_child: Callable[[Callable[[], bool]], bool],
) -> None:
    def cancel() -> None:
        cancelled.append(os.getpid())

    cancelled: list[int] = []
    peaks = Peaks(lambda seconds, job: cancel, marks=Marks())
    scope = peaks.open(exact_host=False)
    assert in_child(lambda: scope.close() == MemoryUse({}) and cancelled == [])
    scope.close()
    assert cancelled == [os.getpid()]
    peaks.close()


def test_a_child_may_measure_itself(
    peaks: Peaks, blip: Callable[[int], None], in_child: Callable[[Callable[[], bool]], bool]
) -> None:
    peaks.open().close()

    def child() -> bool:
        own = Peaks().open()
        blip(40 * MB)
        return near(rise(own.close()), 40 * MB)

    assert in_child(child)
