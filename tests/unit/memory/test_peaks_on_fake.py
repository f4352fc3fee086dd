from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.fakes.accelerator import install
from tests.unit.memory.ram import MB
from titan_nb.memory.marks import Marks
from titan_nb.memory.peaks import Peaks
from titan_nb.memory.stats import memory_stats
from titan_nb.records import DeviceMemory, MemoryUse

SOURCE = "torch fakegpu allocator"


@pytest.fixture
def gpu() -> Iterator[Any]:
    found = install(256 * MB, devices=2)
    yield found
    found.reset()


@pytest.fixture
def peaks(gpu: Any) -> Iterator[Peaks]:
    found = Peaks(marks=Marks())
    yield found
    found.close()
    gpu.reset_peak_memory_stats(0)
    gpu.reset_peak_memory_stats(1)


def take(size_bytes: int, index: int = 0) -> Any:
    import torch

    return torch.empty(size_bytes, dtype=torch.uint8, device=f"fakegpu:{index}")


def blip(size_bytes: int, index: int = 0) -> None:
    take(size_bytes, index)


def rows(use: MemoryUse) -> list[DeviceMemory]:
    return [row for key, row in use.devices.items() if key.startswith("gpu:")]


def rise(use: MemoryUse) -> int:
    return rows(use)[0].peak_bytes - rows(use)[0].before_bytes


def test_nested_windows(peaks: Peaks) -> None:
    outer = peaks.open()
    blip(100 * MB)
    inner = peaks.open()
    blip(50 * MB)
    kept = take(30 * MB)
    inside, around = inner.close(), outer.close()
    assert (rise(inside), rise(around)) == (50 * MB, 100 * MB)
    assert rows(inside)[0].kept_bytes == kept.nbytes == 30 * MB
    assert {(row.how, row.source) for use in (inside, around) for row in rows(use)} == {("exact", SOURCE)}


def test_overlapping_windows(peaks: Peaks) -> None:
    first = peaks.open()
    blip(80 * MB)
    second = peaks.open()
    blip(60 * MB)
    one, two = first.close(), second.close()
    assert (rise(one), rise(two)) == (80 * MB, 60 * MB)
    assert rows(one)[0].how == rows(two)[0].how == "shared window"


def test_windows_of_two_threads(peaks: Peaks) -> None:
    opened, measured = threading.Event(), threading.Event()
    uses: list[MemoryUse] = []

    def other() -> None:
        blip(80 * MB)
        scope = peaks.open()
        opened.set()
        measured.wait(10)
        uses.append(scope.close())

    around = peaks.open()
    thread = threading.Thread(target=other)
    thread.start()
    assert opened.wait(10)
    blip(60 * MB)
    uses.append(around.close())
    measured.set()
    thread.join(10)
    found = sorted((rise(use), rows(use)[0].how) for use in uses)
    assert found == [(60 * MB, "shared window"), (80 * MB, "shared window")]


def test_the_keys_are_uuids_and_each_device_has_its_own_row(gpu: Any, peaks: Peaks) -> None:
    scope = peaks.open()
    blip(10 * MB, index=0)
    blip(20 * MB, index=1)
    use = scope.close()
    keys = [f"gpu:GPU-{gpu.get_device_properties(index).uuid}" for index in (0, 1)]
    assert [key for key in use.devices if key.startswith("gpu:")] == keys
    assert [row.peak_bytes for row in rows(use)] == [10 * MB, 20 * MB]


def test_three_numbers(gpu: Any, peaks: Peaks) -> None:
    gpu.set_other_processes_bytes(40 * MB)
    scope = peaks.open()
    tensor = take(16 * MB)
    blip(32 * MB)
    row, unused = rows(scope.close())
    free, total = gpu.mem_get_info(0)
    assert (row.after_bytes, row.cached_bytes) == (16 * MB, 32 * MB)
    assert row.others_bytes == total - free - gpu.memory_reserved(0)
    assert row.others_bytes is not None
    assert row.others_bytes >= 40 * MB
    assert (unused.cached_bytes, unused.others_bytes) == (0, None)
    found = next(row for key, row in memory_stats().items() if key.startswith("gpu:"))
    assert (found["device"], found["name"]) == ("fakegpu:0", "Fake GPU 0")
    assert (found["allocated_bytes"], found["cached_bytes"]) == (tensor.nbytes, 32 * MB)
    assert (found["peak_bytes"], found["others_bytes"]) == (48 * MB, row.others_bytes)
    assert found["reserved_bytes"] + found["others_bytes"] + found["free_bytes"] == found["total_bytes"]


def peaks_of(gpu: Any) -> list[Any]:
    import torch

    return [
        gpu.max_memory_allocated(),
        gpu.max_memory_reserved(0),
        gpu.memory_stats(0),
        gpu.memory_stats("fakegpu:1"),
        torch.accelerator.max_memory_allocated(),
        torch.accelerator.max_memory_reserved("fakegpu:0"),
        torch.accelerator.memory_stats(torch.device("fakegpu", 1)),
    ]


def test_the_users_own_view_does_not_change(gpu: Any, peaks: Peaks) -> None:
    blip(90 * MB)
    blip(15 * MB, index=1)
    gpu.empty_cache()
    before = peaks_of(gpu)
    outer = peaks.open()
    assert peaks_of(gpu) == before
    peaks.open().close()
    assert peaks_of(gpu) == before
    outer.close()
    assert peaks_of(gpu) == before
    assert before[0] == before[4] == 90 * MB


@pytest.mark.parametrize("module", ["fakegpu", "accelerator"])
def test_the_users_own_reset(gpu: Any, peaks: Peaks, module: str) -> None:
    import torch

    user = getattr(torch, module)
    outer = peaks.open()
    blip(100 * MB)
    user.reset_peak_memory_stats()
    assert user.max_memory_allocated() == 0
    inner = peaks.open()
    blip(70 * MB)
    user.reset_peak_memory_stats(0)
    blip(20 * MB)
    assert user.max_memory_allocated() == gpu.max_memory_allocated() == 20 * MB
    assert (rise(inner.close()), rise(outer.close())) == (70 * MB, 100 * MB)
    assert user.max_memory_allocated() == 20 * MB


def test_after_the_end_it_is_as_without(gpu: Any) -> None:
    import torch

    blip(90 * MB)
    names = ("_accelerator_getDeviceStats", "_accelerator_resetPeakStats")
    before = [getattr(torch._C, name) for name in names]
    peaks = Peaks(marks=Marks())
    peaks.open().close()
    peaks.close()
    assert gpu.max_memory_allocated() == 90 * MB
    gpu.reset_peak_memory_stats(0)
    assert gpu.max_memory_allocated() == 0
    assert [getattr(torch._C, name) for name in names] == before


def test_running_out_in_the_window(peaks: Peaks) -> None:
    import torch

    scope = peaks.open()
    kept = take(200 * MB)
    with pytest.raises(torch.OutOfMemoryError):
        take(100 * MB)
    use = scope.close()
    assert rows(use)[0].kept_bytes == kept.nbytes == 200 * MB
    assert rise(use) == 200 * MB


def test_a_broken_gpu_says_nothing_of_the_others(gpu: Any, peaks: Peaks) -> None:
    scope = peaks.open()
    tensor = take(10 * MB)
    gpu.break_device()
    row = rows(scope.close())[0]
    assert (row.after_bytes, row.others_bytes) == (tensor.nbytes, None)
    found = next(row for key, row in memory_stats().items() if key.startswith("gpu:"))
    assert (found["allocated_bytes"], found["free_bytes"]) == (tensor.nbytes, None)


def test_a_forked_child_sees_no_gpu(peaks: Peaks, in_child: Callable[[Callable[[], bool]], bool]) -> None:
    blip(10 * MB)

    def child() -> bool:
        return rows(Peaks().open().close()) == [] and len(memory_stats()) == 1

    assert in_child(child)
