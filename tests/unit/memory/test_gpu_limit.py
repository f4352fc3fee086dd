from __future__ import annotations

from typing import Any

import pytest

from titan_nb.errors import SettingsError
from titan_nb.memory import gpu_limit
from titan_nb.memory.accelerator import Accelerator
from titan_nb.memory.gpu_limit import GpuLimit

GB = 1 << 30


class Gpu(Accelerator):
    """GPUs of 16 GiB whose allocator can be limited."""

    def __init__(self, count: int = 2, kind: str = "cuda") -> None:
        super().__init__(kind, None)
        self.fractions: list[Any] = [1.0] * count
        self.allocated = [0] * count
        self.used = [True] * count
        self.total_bytes = 16 * GB
        self.fault: Exception | None = None

    def keys(self) -> dict[int, str]:
        return {index: f"gpu:GPU-{index}" for index in range(len(self.fractions))}

    def allocated_bytes(self, index: int) -> int:
        if self.kind == "uncounted":
            raise RuntimeError("keeps no statistics")
        return self.allocated[index]

    def free_and_total_bytes(self, index: int) -> tuple[int, int] | None:
        return (GB, self.total_bytes) if self.used[index] else None

    def fraction(self, index: int) -> float | None:
        return self.fractions[index]  # type: ignore[no-any-return]

    def set_fraction(self, fraction: float, index: int) -> None:
        if self.fault is not None:
            raise self.fault
        # Kept as whole bytes, and told as a fraction again.
        self.fractions[index] = int(fraction * self.total_bytes) / self.total_bytes


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    found = Gpu()
    monkeypatch.setattr(gpu_limit, "accelerator", lambda: found)
    return found


def test_every_gpu_is_limited_and_then_as_before(gpu: Gpu) -> None:
    gpu.fractions[1] = 0.75
    limit = GpuLimit(8 * GB)
    assert gpu.fractions == [0.5, 0.5]
    assert limit.in_force
    assert limit.mechanism == "GPU limit 8.0 GiB: torch memory fraction on cuda:0, cuda:1"
    assert limit.close() is None
    assert limit.close() is None
    assert gpu.fractions == [1.0, 0.75]
    assert limit.in_force, "it was, and the line under the cell is written after the end"


def test_the_limit_is_exact_to_the_byte(gpu: Gpu) -> None:
    gpu.total_bytes, limit_bytes = 19_536_113_813, 8_453_128_948
    assert int(limit_bytes / gpu.total_bytes * gpu.total_bytes) < limit_bytes, "a size that floats round down"
    limit = GpuLimit(limit_bytes)
    assert round(gpu.fractions[0] * gpu.total_bytes) == limit_bytes
    limit.close()


def test_more_than_the_gpu_has(gpu: Gpu) -> None:
    limit = GpuLimit(40 * GB)
    assert gpu.fractions == [1.0, 1.0]
    limit.close()


def test_windows_in_any_order(gpu: Gpu) -> None:
    outer, inner = GpuLimit(8 * GB), GpuLimit(4 * GB)
    assert gpu.fractions == [0.25, 0.25]
    outer.close()
    assert gpu.fractions == [0.25, 0.25]
    inner.close()
    assert gpu.fractions == [1.0, 1.0]


def test_below_what_tensors_hold(gpu: Gpu) -> None:
    gpu.allocated[1] = 9 * GB
    with pytest.raises(SettingsError, match=r"8.0 GiB is below the 9.0 GiB that tensors hold on cuda:1"):
        GpuLimit(8 * GB)
    assert gpu.fractions == [1.0, 1.0]


def test_no_gpu_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_limit, "accelerator", lambda: None)
    limit = GpuLimit(8 * GB)
    assert not limit.in_force
    assert limit.mechanism == "GPU limit 8.0 GiB: not in force, no GPU is in use"
    limit.close()


def test_a_gpu_that_comes_into_use_is_limited_at_the_next_look(gpu: Gpu, sampler: Any) -> None:
    gpu.used[1] = False
    limit = GpuLimit(8 * GB, sampler.every)
    assert gpu.fractions == [0.5, 1.0]
    gpu.used[1] = True
    sampler.tick()
    sampler.tick()
    assert gpu.fractions == [0.5, 0.5]
    limit.close()
    assert sampler.jobs == []
    assert gpu.fractions == [1.0, 1.0]


def test_a_look_that_was_on_its_way_at_the_end(gpu: Gpu, sampler: Any) -> None:
    gpu.used[1] = False
    limit = GpuLimit(8 * GB, sampler.every)
    look = sampler.jobs[0]
    limit.close()
    gpu.used[1] = True
    look()
    assert gpu.fractions == [1.0, 1.0]


def test_an_allocator_that_cannot_be_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = Gpu(1, kind="uncounted")
    gpu.fractions[0] = None
    monkeypatch.setattr(gpu_limit, "accelerator", lambda: gpu)
    limit = GpuLimit(8 * GB)
    assert not limit.in_force
    assert limit.mechanism == (
        "GPU limit 8.0 GiB: none on uncounted:0: the torch uncounted allocator does not tell its limit, "
        "so it could not be put back"
    )
    limit.close()


def test_a_driver_that_fails(gpu: Gpu) -> None:
    gpu.fault = RuntimeError("CUDA error: broken")
    limit = GpuLimit(8 * GB)
    assert not limit.in_force
    assert "none on cuda:0: RuntimeError: CUDA error: broken" in limit.mechanism
    assert limit.close() is None


def test_what_cannot_be_put_back_is_told(gpu: Gpu) -> None:
    limit = GpuLimit(8 * GB)
    gpu.fault = RuntimeError("CUDA error: broken")
    told = limit.close()
    assert told is not None
    assert "the memory fraction of cuda:0 could not be put back (RuntimeError: CUDA error: broken)" in told
    assert "cuda:1" in told


def test_a_sampler_that_fails_takes_nothing_from_the_gpus_in_use(gpu: Gpu) -> None:
    def every(seconds: float, job: object) -> Any:
        raise RuntimeError("no thread")

    limit = GpuLimit(8 * GB, every)
    assert gpu.fractions == [0.5, 0.5]
    limit.close()
    assert gpu.fractions == [1.0, 1.0]


def test_an_interrupt_in_the_middle_leaves_no_limit(gpu: Gpu) -> None:
    def every(seconds: float, job: object) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        GpuLimit(8 * GB, every)
    assert gpu.fractions == [1.0, 1.0]


def test_a_cancel_that_fails(gpu: Gpu) -> None:
    def cancel() -> None:
        raise RuntimeError("gone")

    limit = GpuLimit(8 * GB, lambda seconds, job: cancel)
    assert limit.close() is None
    assert gpu.fractions == [1.0, 1.0]
