from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from titan_nb.memory.marks import Marks
from titan_nb.memory.peaks import Peaks
from titan_nb.memory.stats import memory_stats
from titan_nb.records import DeviceMemory, MemoryUse

MIB = 1 << 20

pytestmark = pytest.mark.gpu


@pytest.fixture
def peaks() -> Iterator[Peaks]:
    import torch

    torch.cuda.init()
    found = Peaks(marks=Marks())
    yield found
    found.close()


def gpu(use: MemoryUse) -> DeviceMemory:
    """Return the row of torch's current device, by the UUID that NVML gives."""
    import pynvml
    import torch

    bus = torch.cuda.get_device_properties(torch.cuda.current_device()).pci_bus_id
    pynvml.nvmlInit()
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            if pynvml.nvmlDeviceGetPciInfo(handle).bus == bus:
                uuid = pynvml.nvmlDeviceGetUUID(handle)
                return use.devices[f"gpu:{uuid if isinstance(uuid, str) else uuid.decode()}"]
    finally:
        pynvml.nvmlShutdown()
    raise AssertionError(f"no device on bus {bus}")


def take(size_bytes: int) -> Any:
    import torch

    return torch.empty(size_bytes, dtype=torch.uint8, device="cuda")


def test_the_peak_of_a_known_tensor(peaks: Peaks) -> None:
    scope = peaks.open()
    tensor = take(256 * MIB)
    del tensor
    row = gpu(scope.close())
    assert row.peak_bytes - row.before_bytes == 256 * MIB
    assert row.kept_bytes == 0
    assert (row.how, row.source) == ("exact", "torch CUDA allocator")


def test_nested_scopes(peaks: Peaks) -> None:
    outer = peaks.open()
    tensor = take(128 * MIB)
    del tensor
    inner = peaks.open()
    tensor = take(64 * MIB)
    del tensor
    kept = take(32 * MIB)
    inside, around = gpu(inner.close()), gpu(outer.close())
    assert inside.peak_bytes - inside.before_bytes == 64 * MIB
    assert inside.kept_bytes == around.kept_bytes == 32 * MIB
    assert around.peak_bytes - around.before_bytes == 128 * MIB
    del kept


def test_cuda_that_starts_inside_the_scope_held_nothing_before() -> None:
    import subprocess
    import sys

    code = (
        "from titan_nb.memory import Peaks; p = Peaks(); s = p.open(); import torch; "
        "t = torch.empty(256 << 20, dtype=torch.uint8, device='cuda'); u = s.close(); "
        "r = max((d for k, d in u.devices.items() if k.startswith('gpu:')), key=lambda d: d.peak_bytes); "
        "print(r.before_bytes, r.peak_bytes, r.after_bytes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", str(256 * MIB), str(256 * MIB)]


def test_three_numbers_fit_the_driver(peaks: Peaks) -> None:
    import torch

    torch.cuda.empty_cache()
    scope = peaks.open()
    kept = take(64 * MIB)
    tensor = take(128 * MIB)
    del tensor
    row = gpu(scope.close())
    free, total = torch.cuda.mem_get_info()
    assert row.cached_bytes == torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    assert row.cached_bytes >= 128 * MIB
    assert row.others_bytes is not None
    # The context alone is larger than this; other processes may come and go between the two looks.
    assert row.others_bytes > 50 * MIB
    assert abs(row.others_bytes - (total - free - torch.cuda.memory_reserved())) < 256 * MIB
    del kept


def test_the_users_own_peaks(peaks: Peaks) -> None:
    import torch

    torch.cuda.reset_peak_memory_stats()
    tensor = take(256 * MIB)
    del tensor
    highest, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    before = torch.cuda.memory_stats()
    scope = peaks.open()
    assert torch.cuda.max_memory_allocated() == highest
    assert torch.cuda.max_memory_reserved() == reserved
    assert torch.cuda.memory_stats() == before
    tensor = take(128 * MIB)
    del tensor
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() == torch.cuda.memory_allocated()
    row = gpu(scope.close())
    assert row.peak_bytes - row.before_bytes == 128 * MIB


def test_memory_stats() -> None:
    import torch

    tensor = take(32 * MIB)
    index = torch.cuda.current_device()
    row = next(row for row in memory_stats().values() if row["device"] == f"cuda:{index}")
    assert row["name"] == torch.cuda.get_device_name()
    assert row["allocated_bytes"] == torch.cuda.memory_allocated() >= tensor.nbytes
    assert row["reserved_bytes"] + row["others_bytes"] + row["free_bytes"] == row["total_bytes"]


def test_a_gpu_that_is_not_in_use_is_not_started() -> None:
    import torch

    for index in range(torch.cuda.device_count()):
        used = torch._C._cuda_hasPrimaryContext(index)
        memory_stats()
        assert torch._C._cuda_hasPrimaryContext(index) == used


def test_device_starts_nothing() -> None:
    import subprocess
    import sys

    code = (
        "from titan_nb.memory.device import device; import torch; found = device(); "
        "print(found, torch.cuda.is_initialized())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["cuda", "False"]
