from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.fold import Extent, Level
from titan_nb.memory.torch_peak import TorchPeak

pytestmark = pytest.mark.usefixtures("no_gpu")


class FakeCuda:
    """The part of `torch.cuda` that is used."""

    def __init__(self, uuids: list[str | None], started: bool = True) -> None:
        self.uuids = uuids
        self.started = started
        self.reset: list[int] = []
        self.asked = 0

    def is_initialized(self) -> bool:
        return self.started

    def device_count(self) -> int:
        return len(self.uuids)

    def get_device_properties(self, index: int) -> Any:
        self.asked += 1
        uuid = self.uuids[index]
        return SimpleNamespace() if uuid is None else SimpleNamespace(uuid=uuid)

    def memory_stats_as_nested_dict(self, index: int) -> dict[str, Any]:
        return {"allocated_bytes": {"all": {"current": 10 + index, "peak": 20 + index, "freed": 7}}}

    def reset_peak_memory_stats(self, index: int) -> None:
        self.reset.append(index)


def put(monkeypatch: pytest.MonkeyPatch, cuda: Any) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))


def test_each_gpu_is_read_and_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(["a1", "GPU-b2", "MIG-c3", None])
    put(monkeypatch, cuda)
    peak = TorchPeak()
    expected = {
        "gpu:GPU-a1": Level(10, 20),
        "gpu:GPU-b2": Level(11, 21),
        "gpu:MIG-c3": Level(12, 22),
        "gpu:cuda3": Level(13, 23),
    }
    assert peak.take() == expected
    assert peak.take() == expected
    assert cuda.reset == [0, 1, 2, 3] * 2
    assert cuda.asked == 4


def test_cuda_is_never_started(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda(["a"], started=False)
    put(monkeypatch, cuda)
    peak = TorchPeak()
    assert peak.take() == {}
    assert cuda.asked == 0
    cuda.started = True
    assert list(peak.take()) == ["gpu:GPU-a"]


@pytest.mark.parametrize("torch", [None, SimpleNamespace(), SimpleNamespace(cuda=SimpleNamespace())])
def test_no_torch_or_one_that_is_half_imported(monkeypatch: pytest.MonkeyPatch, torch: Any) -> None:
    if torch is None:
        monkeypatch.delitem(sys.modules, "torch", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "torch", torch)
    assert TorchPeak().take() == {}


def test_the_real_torch_without_a_started_cuda() -> None:
    import torch

    started = torch.cuda.is_initialized()
    if not started:
        assert accelerator() is None
    TorchPeak().take()
    assert torch.cuda.is_initialized() == started


def test_the_real_torch_has_what_is_used() -> None:
    import torch

    for name in (
        "is_initialized",
        "device_count",
        "get_device_properties",
        "memory_stats_as_nested_dict",
        "reset_peak_memory_stats",
    ):
        assert callable(getattr(torch.cuda, name))


def test_a_gpu_whose_peak_is_what_it_holds_is_not_reset(allocator: Any) -> None:
    resets: list[int] = []
    allocator.reset_peaks = resets.append
    allocator.add("gpu:GPU-a", 10)
    peak = TorchPeak(lambda: allocator)
    peak.take()
    assert resets == []
    allocator.blip("gpu:GPU-b", 5)
    peak.take()
    assert resets == [1]


def test_the_source_is_the_accelerators(allocator: Any) -> None:
    peak = TorchPeak(lambda: None)
    peak.take()
    assert peak.source == "torch allocator"
    allocator.kind = "xpu"
    peak = TorchPeak(lambda: allocator)
    peak.take()
    assert peak.source == "torch XPU allocator"


@pytest.mark.parametrize(("reserved", "cached"), [(30, 20), (10, 0), (9, None), (0, None), (None, None)])
def test_the_cache_is_what_is_reserved_beside_the_tensors(
    allocator: Any, reserved: Any, cached: int | None
) -> None:
    allocator.add("gpu:GPU-a", 10)
    if reserved is not None:
        allocator.reserved["gpu:GPU-a"] = reserved
    assert TorchPeak(lambda: allocator).take()["gpu:GPU-a"] == Level(10, 10, cached)


def unreadable() -> Any:
    raise RuntimeError("device-side assert triggered")


@pytest.mark.parametrize(
    ("sizes", "others"),
    [((60, 100), 10), ((80, 100), 0), (None, None), (unreadable, None)],
)
def test_others_are_what_is_neither_free_nor_reserved(allocator: Any, sizes: Any, others: Any) -> None:
    allocator.sizes = sizes if callable(sizes) else lambda: sizes
    peak = TorchPeak(lambda: allocator)
    assert peak.others_bytes("gpu:GPU-a", Extent(0, 0, 10, 20)) is None  # Nothing was taken yet.
    peak.take()
    assert peak.others_bytes("gpu:GPU-a", Extent(0, 0, 10, 20)) == others
    assert peak.others_bytes("gpu:GPU-a", Extent(0, 0, 10, None)) is None
    assert peak.others_bytes("gpu:GPU-gone", Extent(0, 0, 10, 20)) is None


def test_apples_gpu_is_read_by_sampling(allocator: Any) -> None:
    allocator.kind = "mps"
    allocator.add("gpu:GPU-a", 10)
    peak = TorchPeak(lambda: allocator)
    assert peak.readings() == {}  # Nothing was taken yet.
    assert peak.take() == {}
    read = peak.readings()["gpu:GPU-a"]
    assert read() == (10, "torch MPS allocator")
    allocator.fault = unreadable
    assert read() is None
    allocator.kind = "cuda"
    assert peak.readings() == {}
