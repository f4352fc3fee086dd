from __future__ import annotations

from collections.abc import Iterator

import pytest

from titan_nb.memory.marks import Marks
from titan_nb.memory.peaks import Peaks
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


def take(size_bytes: int) -> object:
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
