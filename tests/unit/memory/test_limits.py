from __future__ import annotations

import errno
import mmap
import resource
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from titan_nb.errors import ResourceError, SettingsError
from titan_nb.memory import gpu_limit, limits
from titan_nb.memory.gpu_limit import GpuLimit
from titan_nb.memory.limits import Limit

GB = 1 << 30


class Part:
    """One of the two limits, as it tells itself."""

    in_force = True
    interrupted_at_bytes: int | None = None

    def __init__(self, limit_bytes: int, told: str | None = None) -> None:
        self.limit_bytes = limit_bytes
        self.told = told
        self.closed = 0

    @property
    def mechanism(self) -> str:
        return f"kept at {self.limit_bytes}"

    def close(self) -> str | None:
        self.closed += 1
        return self.told


def limit_of(gpu: Part | None = None, ram: Part | None = None) -> Limit:
    return Limit(gpu, ram)  # type: ignore[arg-type]


def soft() -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


def test_none_at_all() -> None:
    limit = Limit.open(None, None)
    assert limit.mechanism == ""
    assert limit.explain(MemoryError()) is None
    assert limit.close() is None


def test_a_request_that_the_kernel_refuses() -> None:
    before = soft()
    limit = Limit.open(None, 4 * GB)
    try:
        with pytest.raises(MemoryError) as caught:
            np.empty(6 * GB, np.uint8)
        assert soft() != before
    finally:
        assert limit.close() is None
    assert soft() == before
    assert limit.mechanism == "RAM limit 4.0 GiB: RLIMIT_DATA 128 MiB above it"
    expected = "under a RAM limit of 4.0 GiB: 6.0 GiB more was asked for"
    assert limit.explain(caught.value) == expected
    holders = [("x", 3 * GB), ("model", 1 << 28), ("y", 2000), ("z", 1)]
    assert limit.explain(caught.value, lambda: holders) == (
        f"{expected}; largest: x 3.0 GiB, model 256 MiB, y 2.0 KiB"
    )


def test_torch_and_the_system_are_refused_as_well() -> None:
    def map_memory() -> object:
        return mmap.mmap(-1, 6 * GB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def start_thread() -> None:
        threading.Thread(target=print).start()

    requests: list[tuple[Callable[[], Any], int]] = [
        (lambda: torch.empty(6 * GB, dtype=torch.uint8), 0),
        (map_memory, 0),
        (start_thread, 6 * GB),
    ]
    limit = Limit.open(None, 4 * GB)
    before = threading.stack_size()
    try:
        for request, stack in requests:
            threading.stack_size(stack)
            with pytest.raises((OSError, RuntimeError)) as caught:
                request()
            told = limit.explain(caught.value)
            assert told is not None
            assert told.startswith("under a RAM limit of 4.0 GiB")
    finally:
        threading.stack_size(before)
        limit.close()


def test_a_refused_gpu_leaves_no_limit_of_ram(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    monkeypatch.setattr(GpuLimit, "close", lambda self: closed.append(self))
    monkeypatch.setattr(gpu_limit, "accelerator", lambda: None)
    before = soft()
    with pytest.raises(SettingsError, match=r"a RAM limit of 1.0 MiB is below"):
        Limit.open(GB, 1 << 20)
    assert len(closed) == 1
    with pytest.raises(SettingsError, match="a RAM limit"):
        Limit.open(None, 1 << 20)
    assert soft() == before


def test_both_are_closed_and_what_failed_is_told() -> None:
    gpu, ram = Part(1, "the GPU stays"), Part(2, "the RAM stays")
    limit = limit_of(gpu, ram)
    assert limit.mechanism == "kept at 1; kept at 2"
    assert limit.close() == "the RAM stays; the GPU stays"
    assert (gpu.closed, ram.closed) == (1, 1)


def test_a_forked_child_leaves_all_of_it_alone(in_child: Callable[[Callable[[], bool]], bool]) -> None:
    gpu = GpuLimit(GB)
    limit = Limit(gpu, None)
    with gpu._lock:  # as another thread may hold it at the moment of the fork
        assert in_child(lambda: limit.close() is None)
    limit.close()


@pytest.mark.parametrize("size_bytes", [2**63 - 1, 2**63 - (64 << 20), 2**62])
def test_more_than_the_kernel_can_count(size_bytes: int) -> None:
    before = soft()
    limit = Limit.open(None, size_bytes)
    assert limit.mechanism
    assert limit.close() is None
    assert soft() == before


OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")
CPU = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 2147483648 bytes.")
FORK = BlockingIOError(errno.ENOMEM, "Cannot allocate memory")


def on(device: str) -> ResourceError:
    return ResourceError("short", requested_bytes=2 * GB, available_bytes=None, device=device)


@pytest.mark.parametrize(
    ("error", "gpu", "ram"),
    [
        (OOM, ": 2.0 GiB more was asked for", None),
        (on("cuda:0"), ": 2.0 GiB more was asked for", None),
        (on("cpu"), None, ": 2.0 GiB more was asked for"),
        (CPU, None, ": 2.0 GiB more was asked for"),
        (MemoryError(), None, ""),
        (FORK, None, ""),
        (RuntimeError("can't start new thread"), None, ""),
        (OSError(errno.ENOENT, "no such file"), None, None),
        (RuntimeError("something else"), None, None),
        (KeyboardInterrupt(), None, None),
        (ValueError("asked for"), None, None),
    ],
)
def test_which_limit_an_error_met(error: BaseException, gpu: str | None, ram: str | None) -> None:
    told_gpu = None if gpu is None else f"under a GPU limit of 8.0 GiB{gpu}"
    told_ram = None if ram is None else f"under a RAM limit of 4.0 GiB{ram}"
    assert limit_of(Part(8 * GB), None).explain(error) == told_gpu
    assert limit_of(None, Part(4 * GB)).explain(error) == told_ram
    assert limit_of(Part(8 * GB), Part(4 * GB)).explain(error) == (told_gpu or told_ram)


def test_an_error_raised_because_of_a_shortage() -> None:
    error = ValueError("bad batch")
    error.__cause__ = CPU
    assert limit_of(None, Part(4 * GB)).explain(error) == (
        "under a RAM limit of 4.0 GiB: 2.0 GiB more was asked for"
    )


def test_a_limit_that_was_not_in_force_explains_nothing() -> None:
    gpu, ram = Part(8 * GB), Part(4 * GB)
    gpu.in_force = ram.in_force = False
    assert limit_of(gpu, ram).explain(OOM) is None
    assert limit_of(gpu, ram).explain(MemoryError()) is None


def test_interrupted_by_the_watch() -> None:
    ram = Part(4 * GB)
    ram.interrupted_at_bytes = 5 * GB
    assert limit_of(None, ram).explain(KeyboardInterrupt()) == (
        "interrupted with 5.0 GiB held or reserved, under a RAM limit of 4.0 GiB"
    )


def test_holders_that_cannot_be_found() -> None:
    def fails() -> Any:
        raise MemoryError

    limit = limit_of(None, Part(4 * GB))
    for holders in (fails, list, lambda: [("x",)]):
        assert limit.explain(MemoryError(), holders) == "under a RAM limit of 4.0 GiB"  # type: ignore[arg-type]


def test_holders_are_asked_only_when_there_is_something_to_say() -> None:
    assert limit_of(None, Part(1)).explain(ValueError(), lambda: pytest.fail("asked")) is None


class Lying(OSError):
    @property
    def errno(self) -> int:
        raise RuntimeError("never ask me")

    def __str__(self) -> str:
        raise RuntimeError("nor me")


def test_an_errors_own_code_is_not_run() -> None:
    assert limits._is_refusal(Lying(errno.ENOMEM, "x"))
    assert not limits._is_refusal(Lying())
