from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.memory.ram import MB, NOISE, near, ram, rise
from titan_nb.host import process_id
from titan_nb.memory import host_peak
from titan_nb.memory.marks import Marks
from titan_nb.memory.peaks import Peaks
from titan_nb.memory.torch_peak import TorchPeak
from titan_nb.records import DeviceMemory, MemoryUse

pytestmark = pytest.mark.usefixtures("no_gpu")


def test_a_short_block_is_caught_exactly(peaks: Peaks, blip: Callable[[int], None]) -> None:
    scope = peaks.open()
    blip(200 * MB)
    use = scope.close()
    assert near(rise(use), 200 * MB)
    assert abs(ram(use).kept_bytes) < NOISE
    assert (ram(use).how, ram(use).source) == ("exact", "VmHWM")
    assert set(use.devices) == {f"ram:{process_id()}"}


def test_what_is_kept_shows_after(peaks: Peaks, hold: Callable[[int], mmap.mmap]) -> None:
    scope = peaks.open()
    block = hold(50 * MB)
    use = scope.close()
    block.close()
    assert near(ram(use).kept_bytes, 50 * MB)


def test_closing_again_gives_the_same(peaks: Peaks, blip: Callable[[int], None]) -> None:
    scope = peaks.open()
    use = scope.close()
    blip(50 * MB)
    assert scope.close() is use


def test_nested_blocks(peaks: Peaks, blip: Callable[[int], None], hold: Callable[[int], mmap.mmap]) -> None:
    outer = peaks.open()
    blip(100 * MB)
    inner = peaks.open()
    blip(50 * MB)
    block = hold(30 * MB)
    inside, around = inner.close(), outer.close()
    block.close()
    assert near(rise(inside), 50 * MB)
    assert near(ram(inside).kept_bytes, 30 * MB)
    assert near(rise(around), 100 * MB)
    assert {ram(inside).how, ram(around).how} == {"exact"}


def test_two_peaks_of_one_process_do_not_disturb_each_other(blip: Callable[[int], None]) -> None:
    first, second = Peaks(), Peaks()
    outer = first.open()
    blip(80 * MB)
    inner = second.open()
    second.close()
    assert rise(inner.close()) < NOISE
    assert near(rise(outer.close()), 80 * MB)
    first.close()


def test_overlapping_in_one_thread_is_shared(peaks: Peaks, blip: Callable[[int], None]) -> None:
    first = peaks.open()
    blip(80 * MB)
    second = peaks.open()
    blip(60 * MB)
    one = first.close()
    two = second.close()
    assert near(rise(one), 80 * MB)
    assert near(rise(two), 60 * MB)
    assert ram(one).how == ram(two).how == "shared window"


def test_overlapping_in_two_threads_is_shared(peaks: Peaks, blip: Callable[[int], None]) -> None:
    opened, measured = threading.Event(), threading.Event()
    uses: list[MemoryUse] = []

    def other() -> None:
        scope = peaks.open()
        opened.set()
        measured.wait(10)
        uses.append(scope.close())

    around = peaks.open()
    thread = threading.Thread(target=other)
    thread.start()
    assert opened.wait(10)
    nested = peaks.open()
    blip(40 * MB)
    inside = nested.close()
    measured.set()
    thread.join(10)
    outside = around.close()
    assert [ram(use).how for use in (inside, outside, *uses)] == ["shared window"] * 3
    assert all(near(rise(use), 40 * MB) for use in (inside, outside, *uses))
    alone = peaks.open().close()
    assert ram(alone).how == "exact"


def test_many_threads_at_once(peaks: Peaks) -> None:
    rows: list[DeviceMemory] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(30):
                outer = peaks.open()
                peaks.open().close()
                rows.extend(outer.close().devices.values())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    # On a busy machine a thread may wait in vain for the lock, and then has no row.
    assert rows
    assert all(row.before_bytes <= row.peak_bytes >= row.after_bytes for row in rows)
    assert len(peaks._marks.scopes) == 0


def test_without_exact_host_it_is_sampled_and_the_mark_left_alone(
    sampler: Any, blip: Callable[[int], None], hold: Callable[[int], mmap.mmap]
) -> None:
    peaks = Peaks(sampler.every)
    exact = peaks.open()
    scope = peaks.open(exact_host=False)
    assert sampler.periods == [0.010]
    block = hold(60 * MB)
    sampler.tick()
    block.close()
    blip(90 * MB)  # Between two samples: this one is missed, and the label says that it may be.
    use = scope.close()
    assert sampler.jobs == []
    assert near(rise(use), 60 * MB)
    assert (ram(use).how, ram(use).source) == ("sampled", "VmRSS every 10 ms")
    assert near(rise(exact.close()), 90 * MB)
    peaks.close()


def test_only_a_scope_that_allows_it_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        writes.append(data)
        return real(descriptor, data)

    monkeypatch.setattr(host_peak.os, "write", write)
    peaks = Peaks(marks=Marks())
    peaks.open(exact_host=False).close()
    assert writes == []
    peaks.open().close()
    assert b"5" in writes
    peaks.close()


def test_a_real_sampling_thread_sees_a_block(hold: Callable[[int], mmap.mmap]) -> None:
    stopped = threading.Event()
    ticked = threading.Event()

    def every(seconds: float, job: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            while not stopped.wait(seconds):
                job()
                ticked.set()

        threading.Thread(target=run, daemon=True).start()
        return stopped.set

    peaks = Peaks(every)
    scope = peaks.open(exact_host=False)
    block = hold(70 * MB)
    for _ in range(2):  # The first tick may have looked before the block was whole.
        ticked.clear()
        assert ticked.wait(10)
    block.close()
    assert near(rise(scope.close()), 70 * MB)
    peaks.close()


def test_gpus_are_folded(allocator: Any) -> None:
    peaks = Peaks(marks=Marks(torch=TorchPeak(lambda: allocator)))
    allocator.add("gpu:GPU-a", 10)
    outer = peaks.open()
    allocator.blip("gpu:GPU-a", 90)
    inner = peaks.open()
    allocator.blip("gpu:GPU-a", 40)
    allocator.add("gpu:GPU-b", 30)
    allocator.appear("gpu:GPU-c")
    allocator.blip("gpu:GPU-c", 7)
    inside, around = inner.close().devices, outer.close().devices
    source = "torch CUDA allocator"
    assert inside["gpu:GPU-a"] == DeviceMemory(10, 50, 10, "exact", source)
    assert around["gpu:GPU-a"] == DeviceMemory(10, 100, 10, "exact", source)
    assert inside["gpu:GPU-b"] == around["gpu:GPU-b"] == DeviceMemory(0, 30, 30, "exact", source)
    assert inside["gpu:GPU-c"] == around["gpu:GPU-c"] == DeviceMemory(0, 7, 0, "exact", source)
    peaks.close()


def test_gpus_are_exact_also_where_the_host_is_sampled(allocator: Any) -> None:
    peaks = Peaks(marks=Marks(torch=TorchPeak(lambda: allocator)))
    scope = peaks.open(exact_host=False)
    allocator.blip("gpu:GPU-a", 90)
    use = scope.close()
    assert ram(use).how == "sampled"
    assert use.devices["gpu:GPU-a"].peak_bytes == 90
    assert use.devices["gpu:GPU-a"].how == "exact"
    peaks.close()


def test_the_processs_peak_is_kept(peaks: Peaks, blip: Callable[[int], None]) -> None:
    blip(120 * MB)
    whole = peaks.process_peak_bytes
    assert whole is not None
    peaks.open().close()
    again = peaks.process_peak_bytes
    assert again is not None
    assert again > whole - NOISE


def test_torch_on_the_cpu_adds_no_device(peaks: Peaks) -> None:
    import torch

    started = torch.cuda.is_initialized()
    scope = peaks.open()
    # Larger than glibc ever keeps for reuse (32 MB), so that it must be new memory.
    tensor = torch.ones(64 * MB // 4)
    use = scope.close()
    assert tensor.sum() == 64 * MB // 4
    assert ram(use).kept_bytes >= 60 * MB
    assert torch.cuda.is_initialized() == started
    if not started:
        assert list(use.devices) == [f"ram:{process_id()}"]


def test_nested_and_overlapping_on_a_gpu(allocator: Any) -> None:
    peaks = Peaks(marks=Marks(torch=TorchPeak(lambda: allocator)))
    key = "gpu:GPU-a"
    outer = peaks.open()
    allocator.blip(key, 100)
    inner = peaks.open()
    allocator.blip(key, 50)
    allocator.add(key, 30)
    inside, around = inner.close().devices[key], outer.close().devices[key]
    assert (inside.peak_bytes, inside.kept_bytes, around.peak_bytes) == (50, 30, 100)
    assert inside.how == around.how == "exact"
    allocator.add(key, -30)
    first = peaks.open()
    allocator.blip(key, 80)
    second = peaks.open()
    allocator.blip(key, 60)
    one = first.close().devices[key]
    two = second.close().devices[key]
    assert (one.peak_bytes, two.peak_bytes) == (80, 60)
    assert one.how == two.how == "shared window"
    peaks.close()


def test_two_threads_on_a_gpu_share_their_window(allocator: Any) -> None:
    peaks = Peaks(marks=Marks(torch=TorchPeak(lambda: allocator)))
    key, opened, measured = "gpu:GPU-a", threading.Event(), threading.Event()
    uses: list[MemoryUse] = []

    def other() -> None:
        allocator.blip(key, 80)
        scope = peaks.open()
        opened.set()
        measured.wait(10)
        uses.append(scope.close())

    around = peaks.open()
    thread = threading.Thread(target=other)
    thread.start()
    assert opened.wait(10)
    allocator.blip(key, 60)
    outside = around.close()
    measured.set()
    thread.join(10)
    rows = [outside.devices[key], uses[0].devices[key]]
    assert [(row.peak_bytes, row.how) for row in rows] == [(80, "shared window"), (60, "shared window")]
    peaks.close()


def test_what_is_cached_and_what_others_hold_at_the_end(allocator: Any) -> None:
    allocator.reserved["gpu:GPU-a"] = 64
    allocator.sizes = lambda: (900, 1000)
    peaks = Peaks(marks=Marks(torch=TorchPeak(lambda: allocator)))
    scope = peaks.open()
    allocator.add("gpu:GPU-a", 40)
    rows = scope.close().devices
    source = "torch CUDA allocator"
    assert rows["gpu:GPU-a"] == DeviceMemory(0, 40, 40, "exact", source, cached_bytes=24, others_bytes=36)
    assert rows["gpu:GPU-b"] == DeviceMemory(0, 0, 0, "exact", source)
    assert (ram(MemoryUse(rows)).cached_bytes, ram(MemoryUse(rows)).others_bytes) == (None, None)
    peaks.close()


def test_apples_gpu_is_sampled_and_says_so(allocator: Any, sampler: Any) -> None:
    allocator.kind = "mps"
    allocator.add("gpu:GPU-a", 10)
    peaks = Peaks(sampler.every, marks=Marks(torch=TorchPeak(lambda: allocator)))
    scope = peaks.open()
    allocator.add("gpu:GPU-a", 50)
    sampler.tick()
    allocator.add("gpu:GPU-a", -40)
    rows = scope.close().devices
    assert sampler.jobs == []
    source = "torch MPS allocator every 10 ms"
    assert rows["gpu:GPU-a"] == DeviceMemory(10, 60, 20, "sampled", source)
    assert list(rows) == [f"ram:{process_id()}", "gpu:GPU-a", "gpu:GPU-b"]
    assert ram(MemoryUse(rows)).how == "exact"
    peaks.close()


def test_apples_gpu_that_comes_late_held_nothing_before(allocator: Any, sampler: Any) -> None:
    allocator.kind = "mps"
    came: list[Any] = []
    peaks = Peaks(sampler.every, marks=Marks(torch=TorchPeak(lambda: came[0] if came else None)))
    scope = peaks.open(exact_host=False)
    came.append(allocator)
    allocator.add("gpu:GPU-a", 50)
    rows = scope.close().devices
    assert rows["gpu:GPU-a"] == DeviceMemory(0, 50, 50, "sampled", "torch MPS allocator at start and end")
    assert next(iter(rows)) == f"ram:{process_id()}"
    peaks.close()


def test_apples_gpu_that_cannot_be_read_is_absent(allocator: Any) -> None:
    def fail() -> int:
        raise RuntimeError("gone")

    allocator.kind = "mps"
    peaks = Peaks(marks=Marks(torch=TorchPeak(lambda: allocator)))
    scope = peaks.open()
    allocator.fault = fail
    assert set(scope.close().devices) == {f"ram:{process_id()}"}
    peaks.close()
