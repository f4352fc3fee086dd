"""What of a GPU is left to the next cell, on the fake GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.fakes.accelerator import install, uninstall
from titan_nb.errors import SettingsError
from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.batching import fit_batch
from titan_nb.memory.chunks import chunks
from titan_nb.memory.gpu_limit import GpuLimit
from titan_nb.memory.headroom import ask_for_everything, keep_headroom, spare_bytes
from titan_nb.memory.reclaim import anyone_yields, register_yielder

MIB = 1 << 20
ROOM = 100 * MIB


@pytest.fixture
def gpu() -> Iterator[Any]:
    found = install(ROOM)
    torch.empty(1, device="fakegpu")
    found.empty_cache()
    yield found
    uninstall()


class Cache:
    """Holds tensors that can be made again, and gives as many of them as it is asked for."""

    def __init__(self, *sizes_mib: int) -> None:
        self.held = [take(size) for size in sizes_mib]
        self.asked: list[tuple[int, str]] = []

    def give(self, needed: int, key: str) -> int:
        self.asked.append((needed, key))
        given = 0
        while self.held and given < needed:
            given += self.held.pop().nbytes
        return given


def take(mib: int) -> Any:
    return torch.empty(mib * MIB, dtype=torch.uint8, device="fakegpu")


@pytest.fixture
def cache(gpu: Any) -> Iterator[Callable[..., Cache]]:
    undo = []

    def made(*sizes_mib: int) -> Cache:
        found = Cache(*sizes_mib)
        undo.append(register_yielder(found.give))
        return found

    yield made
    for one in undo:
        one()


def spare() -> int:
    found = accelerator()
    assert found is not None
    size = spare_bytes(found, 0)
    assert size is not None
    return round(size / MIB)


def test_what_can_be_taken(gpu: Any) -> None:
    assert spare() == 80
    kept = take(30)
    assert spare() == 50
    del kept  # and in the allocator's cache now
    assert spare() == 80
    gpu.set_other_processes_bytes(90 * MIB)
    gpu.empty_cache()
    assert spare() == -10
    gpu.set_other_processes_bytes(0)
    gpu.set_per_process_memory_fraction(0.5, 0)
    kept = take(10)
    assert spare() == 20
    del kept


def test_nothing_is_known_of_a_device_that_is_not_used() -> None:
    class Idle:
        def free_and_total_bytes(self, index: int) -> None:
            return None

    assert spare_bytes(Idle(), 0) is None  # type: ignore[arg-type]


def test_what_is_missing_is_asked_for(gpu: Any, cache: Callable[..., Cache]) -> None:
    found = cache(10, 10, 10)
    assert keep_headroom() == 0
    assert found.asked == []
    users = take(55)
    assert keep_headroom() == 10 * MIB
    assert found.asked == [(5 * MIB, f"gpu:GPU-{gpu.get_device_properties(0).uuid}")]
    assert keep_headroom() == 0
    assert ask_for_everything() == 20 * MIB
    del users


def test_nobody_is_asked_where_nobody_is_there_or_can_be(gpu: Any, cache: Callable[..., Cache]) -> None:
    assert (keep_headroom(), ask_for_everything()) == (0, 0)
    found = cache(90)
    gpu.break_device()
    try:
        assert keep_headroom() == 0
    finally:
        gpu.repair_device()
    assert found.asked == []
    uninstall()
    assert anyone_yields()
    assert (keep_headroom(), ask_for_everything()) == (0, 0)


def test_a_batch_is_not_halved_while_others_can_give(cache: Callable[..., Cache]) -> None:
    found = cache(20, 20)

    def work(size: int) -> int:
        return int(take(size).nbytes)

    fit = fit_batch(work, start=80, remember=False)
    assert (fit.batch_size, fit.failed_sizes) == (80, ())
    assert found.held == []
    fit = fit_batch(work, start=160, remember=False)  # nobody has any more
    assert (fit.batch_size, fit.failed_sizes) == (80, (160,))


def test_others_are_asked_once_for_one_batch(cache: Callable[..., Cache]) -> None:
    register = cache()
    register.give = lambda needed, key: 1  # type: ignore[method-assign]
    stop = register_yielder(lambda needed, key: 1)  # says so, and gives nothing
    try:
        fit = fit_batch(lambda size: take(size).nbytes, start=400, remember=False)
        assert (fit.batch_size, fit.failed_sizes) == (100, (400, 200))
        sizes: list[int] = []
        chunks(range(200), 200).map(lambda part: sizes.append(len(part)) or take(len(part)).nbytes)
        assert sizes == [200, 200, 100, 100]
    finally:
        stop()


def test_a_shortage_of_the_host_is_no_matter_of_the_gpus(cache: Callable[..., Cache]) -> None:
    found = cache(20)

    def work(size: int) -> int:
        if size > 2:
            raise MemoryError
        return size

    assert fit_batch(work, start=4, remember=False).batch_size == 2
    assert found.asked == []


def test_a_piece_is_not_halved_either(cache: Callable[..., Cache]) -> None:
    cache(20, 20)
    sizes: list[int] = []

    def work(part: range) -> None:
        sizes.append(len(part))
        take(len(part))

    chunks(range(80)).map(work)
    assert sizes == [80, 80]


def test_a_limit_asks_before_it_refuses(cache: Callable[..., Cache]) -> None:
    found = cache(20, 20)
    users = take(30)
    limit = GpuLimit(60 * MIB)
    limit.close()
    assert len(found.held) == 1
    with pytest.raises(SettingsError, match=r"a GPU limit of 20.0 MiB is below the 30.0 MiB"):
        GpuLimit(20 * MIB)
    assert found.held == []
    del users
