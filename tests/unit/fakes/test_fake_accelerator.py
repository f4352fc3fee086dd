from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

from tests.fakes.accelerator import install, uninstall

MIB = 1 << 20


@pytest.fixture
def fakegpu() -> Iterator[ModuleType]:
    # An exception that pytest caught is a cycle, and holds the tensors of its test.
    gc.collect()
    yield install(256 * MIB, devices=2)
    uninstall()


def take(size_bytes: int, device: str = "fakegpu") -> torch.Tensor:
    return torch.empty(size_bytes, dtype=torch.uint8, device=device)


def test_it_starts_with_its_first_use_and_ends_with_uninstall(fakegpu: ModuleType) -> None:
    assert torch.fakegpu is fakegpu
    assert fakegpu.is_available()
    assert not fakegpu.is_initialized()
    assert fakegpu.memory_stats() == {}
    tensor = take(1)
    assert fakegpu.is_initialized()
    assert torch.accelerator.current_accelerator(check_available=True) == torch.device("fakegpu")
    del tensor
    uninstall()
    assert not fakegpu.is_initialized()
    assert not torch.accelerator.is_available()
    assert torch.accelerator.current_accelerator(check_available=True) is None
    with pytest.raises(RuntimeError, match="invalid device ordinal 0 of 0"):
        take(1)


def test_installed_again_it_has_another_size(fakegpu: ModuleType) -> None:
    kept = take(8 * MIB)
    assert install(64 * MIB, devices=1) is fakegpu
    assert fakegpu.mem_get_info() == (56 * MIB, 64 * MIB)
    assert (fakegpu.device_count(), kept.numel()) == (1, 8 * MIB)
    with pytest.raises(ValueError, match="from 0 to 4 fake devices, not 5"):
        install(devices=5)


def test_allocations_are_rounded_to_512_bytes(fakegpu: ModuleType) -> None:
    tensors = [take(1), take(512), take(513)]
    assert fakegpu.memory_allocated() == 512 + 512 + 1024
    stats = fakegpu.memory_stats()
    assert stats["requested_bytes.all.current"] == 1 + 512 + 513
    assert stats["active_bytes.all.current"] == 2048
    assert stats["allocation.all.current"] == stats["segment.small_pool.current"] == 3
    del tensors
    assert fakegpu.memory_allocated() == 0
    assert take(0).data_ptr() == 0


def test_a_tensor_beyond_the_capacity(fakegpu: ModuleType) -> None:
    kept = take(240 * MIB)
    with pytest.raises(torch.OutOfMemoryError) as caught:
        take(32 * MIB)
    assert str(caught.value) == (
        "fakegpu out of memory. Tried to allocate 32.00 MiB. GPU 0 has a total capacity of 256.00 MiB of "
        "which 16.00 MiB is free. Including non-PyTorch memory, this process has 240.00 MiB memory in use. "
        "Of the allocated memory 240.00 MiB is allocated by PyTorch, and 0 bytes is reserved by PyTorch but "
        "unallocated."
    )
    stats = fakegpu.memory_stats()
    assert (stats["num_ooms"], stats["num_alloc_retries"]) == (1, 1)
    assert take(16 * MIB).numel() + kept.numel() == 256 * MIB


@pytest.mark.parametrize("size_bytes", [1 << 40, (1 << 63) - 1])
def test_a_tensor_beyond_all_bounds(fakegpu: ModuleType, size_bytes: int) -> None:
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate \d+\.00 GiB"):
        take(size_bytes)
    assert fakegpu.memory_reserved() == 0


def test_a_freed_block_is_used_again(fakegpu: ModuleType) -> None:
    address = take(10 * MIB).data_ptr()
    assert (fakegpu.memory_allocated(), fakegpu.memory_reserved()) == (0, 10 * MIB)
    again = take(10 * MIB)
    assert again.data_ptr() == address
    assert fakegpu.memory_stats()["num_device_alloc"] == 1
    other = take(8 * MIB)
    assert fakegpu.memory_reserved() == 18 * MIB
    del again, other
    fakegpu.empty_cache()
    assert fakegpu.memory_reserved() == 0
    assert fakegpu.mem_get_info() == (256 * MIB, 256 * MIB)


def test_the_cache_is_flushed_before_an_allocation_fails(fakegpu: ModuleType) -> None:
    del (first := [take(100 * MIB), take(100 * MIB)])[:]
    assert not first
    kept = take(150 * MIB)
    stats = fakegpu.memory_stats()
    assert (stats["num_alloc_retries"], stats["num_ooms"]) == (1, 0)
    assert fakegpu.memory_reserved() == kept.nbytes


def test_peaks(fakegpu: ModuleType) -> None:
    kept = take(30 * MIB)
    del (passing := [take(70 * MIB)])[:]
    assert not passing
    assert fakegpu.max_memory_allocated() == fakegpu.max_memory_reserved() == 100 * MIB
    nested = fakegpu.memory_stats_as_nested_dict()["allocated_bytes"]["all"]
    assert nested == {
        "current": 30 * MIB,
        "peak": 100 * MIB,
        "allocated": 100 * MIB,
        "freed": 70 * MIB,
    }
    fakegpu.reset_peak_memory_stats()
    assert fakegpu.max_memory_allocated() == kept.nbytes
    fakegpu.reset_accumulated_memory_stats()
    assert fakegpu.memory_stats()["allocated_bytes.all.allocated"] == 0


def test_a_fraction_of_the_device(fakegpu: ModuleType) -> None:
    assert fakegpu.get_per_process_memory_fraction() == 1.0
    fakegpu.set_per_process_memory_fraction(0.25)
    assert fakegpu.get_per_process_memory_fraction() == 0.25
    kept = take(60 * MIB)
    with pytest.raises(torch.OutOfMemoryError, match=r"60\.00 MiB memory in use\. 64\.00 MiB allowed; Of"):
        take(5 * MIB)
    assert take(4 * MIB).nbytes + kept.nbytes == 64 * MIB
    assert fakegpu.get_per_process_memory_fraction(1) == 1.0
    with pytest.raises(ValueError, match="Allowed range: 0~1"):
        fakegpu.set_per_process_memory_fraction(1.5)
    with pytest.raises(TypeError):
        fakegpu.set_per_process_memory_fraction(1)


def test_two_devices(fakegpu: ModuleType) -> None:
    first, second = take(10 * MIB), take(20 * MIB, "fakegpu:1")
    ones = [torch.ones(3, device=f"fakegpu:{index}") for index in (0, 1)]
    assert (first.device.index, second.device.index) == (0, 1)
    assert [fakegpu.memory_allocated(index) for index in (0, 1)] == [10 * MIB + 512, 20 * MIB + 512]
    with fakegpu.device(1):
        third = take(1)
        assert fakegpu.current_device() == torch.accelerator.current_device_index() == 1
    assert (third.device.index, fakegpu.current_device()) == (1, 0)
    assert fakegpu.memory_allocated("fakegpu:1") == 20 * MIB + 1024
    uuids = {str(fakegpu.get_device_properties(index).uuid) for index in (0, 1)}
    assert len(uuids) == fakegpu.device_count() == torch.accelerator.device_count() == 2
    assert fakegpu.get_device_name(1) == "Fake GPU 1"
    assert second.to("fakegpu:0").device == torch.device("fakegpu:0")
    with pytest.raises(RuntimeError, match="at least two devices, fakegpu:0 and fakegpu:1!"):
        ones[0] + ones[1]
    with pytest.raises(RuntimeError, match="invalid device ordinal 2 of 2"):
        take(1, "fakegpu:2")
    with pytest.raises(ValueError, match="Expected a fakegpu device, but got: cpu"):
        fakegpu.synchronize("cpu")


def test_the_snapshot_sums_to_what_is_allocated(fakegpu: ModuleType) -> None:
    kept = [take(size) for size in (100, 3 * MIB, 700)] + [take(9, "fakegpu:1")]
    del (passing := [take(5 * MIB)])[:]
    assert not passing
    segments = fakegpu.memory_snapshot(include_traces=False)
    for device in (0, 1):
        mine = [segment for segment in segments if segment["device"] == device]
        blocks = [block for segment in mine for block in segment["blocks"]]
        active = {block["address"]: block["size"] for block in blocks if block["state"] == "active_allocated"}
        assert sum(active.values()) == fakegpu.memory_allocated(device)
        assert sum(block["size"] for block in blocks) == fakegpu.memory_reserved(device)
        assert active.keys() == {tensor.data_ptr() for tensor in kept if tensor.device.index == device}
    many = [take(1) for _ in range(300)]
    assert len(fakegpu.memory_snapshot()) == len(segments) + len(many)


def test_memory_without_a_name(fakegpu: ModuleType) -> None:
    held = fakegpu.hold(8 * MIB, device=1)
    assert fakegpu.memory_allocated(1) == 8 * MIB
    held.release()
    held.release()
    assert fakegpu.memory_allocated(1) == 0
    with fakegpu.hold(100):
        assert fakegpu.memory_allocated() == 512
    with pytest.raises(torch.OutOfMemoryError, match=r"Tried to allocate 300\.00 MiB\. GPU 0"):
        fakegpu.hold(300 * MIB)


def test_memory_of_another_process(fakegpu: ModuleType) -> None:
    kept = take(10 * MIB)
    fakegpu.set_other_processes_bytes(100 * MIB)
    assert fakegpu.mem_get_info() == torch.accelerator.get_memory_info() == (146 * MIB, 256 * MIB)
    assert fakegpu.memory_reserved() == kept.nbytes
    with pytest.raises(torch.OutOfMemoryError, match=r"of which 146\.00 MiB is free"):
        take(150 * MIB)
    fakegpu.set_other_processes_bytes(300 * MIB)
    assert fakegpu.mem_get_info()[0] == 0
    fakegpu.set_device(1)
    fakegpu.reset()
    assert fakegpu.mem_get_info()[0] == 246 * MIB
    assert fakegpu.current_device() == 0


def test_a_sticky_error(fakegpu: ModuleType) -> None:
    tensors = [torch.ones(4, device="fakegpu")]
    fakegpu.break_device()
    for use in (
        lambda: tensors[0] + 1,
        lambda: tensors[0].cpu(),
        lambda: take(1),
        fakegpu.synchronize,
        fakegpu.empty_cache,
        fakegpu.mem_get_info,
        torch.accelerator.synchronize,
    ):
        with pytest.raises(torch.AcceleratorError, match="fakegpu error: device-side assert triggered\n"):
            use()
    assert fakegpu.memory_allocated() == 512
    tensors.clear()
    assert fakegpu.memory_allocated() == 0
    fakegpu.repair_device()
    assert torch.ones(4, device="fakegpu").sum().item() == 4
    fakegpu.break_device("CUDA error: an illegal memory access was encountered")
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        fakegpu.synchronize()


def test_what_torch_accelerator_says(fakegpu: ModuleType) -> None:
    kept = take(10 * MIB)
    del (passing := [take(5 * MIB)])[:]
    assert not passing
    accelerator = torch.accelerator
    assert accelerator.memory_allocated() == kept.nbytes
    assert accelerator.max_memory_allocated() == 15 * MIB
    assert accelerator.memory_stats()["reserved_bytes.all.current"] == 15 * MIB
    accelerator.empty_cache()
    accelerator.empty_host_cache()
    accelerator.reset_peak_memory_stats()
    assert accelerator.max_memory_reserved() == accelerator.max_memory_allocated() == 10 * MIB
    before, after = (torch.Event("fakegpu", enable_timing=True) for _ in range(2))
    before.record()
    time.sleep(0.01)
    after.record()
    assert before.elapsed_time(after) >= 10  # milliseconds
    assert accelerator.current_stream() == fakegpu.current_stream()


def test_many_threads_at_once(fakegpu: ModuleType) -> None:
    sums: list[float] = []

    def work() -> None:
        sums.extend(torch.ones(300, device="fakegpu").sum().item() for _ in range(20))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sums == [300.0] * 160
    assert fakegpu.memory_allocated() == 0
