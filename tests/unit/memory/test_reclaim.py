"""What is given back and how it is counted, and whom else can be asked."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.unit.memory.blocks import KEYS, Block, Device
from titan_nb.memory import reclaim as module
from titan_nb.memory.accelerator import Accelerator
from titan_nb.memory.host_peak import HostPeak
from titan_nb.memory.reclaim import ask_yielders, reclaim, register_yielder


@pytest.fixture
def device() -> Device:
    return Device()


@pytest.fixture
def gpu(device: Device) -> Accelerator:
    return Accelerator("fake", device)


def failed(device: Device, size_bytes: int) -> BaseException:
    def closure() -> None:
        block = Block(device, size_bytes // 2)

        def inner() -> None:
            more = Block(device, size_bytes - size_bytes // 2)
            cycle: list[Any] = [more, block]
            cycle.append(cycle)
            raise MemoryError

        inner()

    try:
        closure()
    except MemoryError as error:
        return error
    raise AssertionError


def test_all_that_a_failed_call_holds_comes_back(device: Device, gpu: Accelerator) -> None:
    mine = Block(device, 12)
    other = Block(device, 5, 1)
    error = failed(device, 240)
    assert device.used == [252, 5]
    done = reclaim([error], gpu=gpu)
    assert device.used == [12, 5]
    assert device.reserved == [12, 5]
    assert {key: done.freed_bytes[key] for key in KEYS} == {KEYS[0]: 240, KEYS[1]: 0}
    assert done.returned_bytes == {KEYS[0]: 240, KEYS[1]: 0}
    assert done.held_bytes == {KEYS[0]: 12, KEYS[1]: 5}
    assert mine
    assert other


def test_three_in_a_row_leave_what_was_there_before(device: Device, gpu: Accelerator) -> None:
    kept = []
    for _ in range(3):
        kept.append(failed(device, 240))
        reclaim(kept[-1:], gpu=gpu)
        assert device.used == [0, 0]
    assert len(kept) == 3


def test_the_cache_can_be_kept(device: Device, gpu: Accelerator) -> None:
    done = reclaim([failed(device, 240)], caches=False, gpu=gpu)
    assert device.reserved == [240, 0]
    assert done.freed_bytes[KEYS[0]] == 240
    assert done.returned_bytes[KEYS[0]] == 0


def test_something_else_is_let_go_of_and_counted(device: Device, gpu: Accelerator) -> None:
    blocks = [Block(device, 7)]
    done = reclaim(drop=blocks.clear, gpu=gpu)
    assert done.freed_bytes[KEYS[0]] == 7


def test_garbage_is_collected_even_if_the_user_has_switched_that_off(
    device: Device, gpu: Accelerator
) -> None:
    cycle: list[Any] = [Block(device, 7)]
    cycle.append(cycle)
    del cycle
    gc.disable()
    try:
        assert reclaim(gpu=gpu).freed_bytes[KEYS[0]] == 7
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_is_frozen_comes_back_and_the_rest_stays_frozen(device: Device, gpu: Accelerator) -> None:
    def fail() -> None:
        block = Block(device, 240)
        raise MemoryError
        del block

    with pytest.raises(MemoryError) as caught:
        fail()
    gc.freeze()
    try:
        frozen = gc.get_freeze_count()
        reclaim([caught.value], gpu=gpu)
        assert device.used == [0, 0]
        assert gc.get_freeze_count() > frozen // 2
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("fault", [RuntimeError("CUDA error: device-side assert triggered"), OSError("gone")])
def test_a_device_that_cannot_be_asked_is_left_out(
    device: Device, gpu: Accelerator, fault: Exception
) -> None:
    error = failed(device, 240)
    device.fault = fault
    done = reclaim([error], gpu=gpu)
    assert device.used == [0, 0]
    assert not done.held_bytes
    assert not done.returned_bytes
    assert [key.partition(":")[0] for key in done.freed_bytes] == ["ram"]


def test_the_host_counts_resident_memory(hold: Callable[[int], Any]) -> None:
    block = hold(64 << 20)
    done = reclaim(drop=block.close)
    (key,) = done.freed_bytes
    assert key.startswith("ram:")
    assert done.freed_bytes[key] > 32 << 20
    assert not done.held_bytes


def test_a_host_that_says_nothing_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.HostPeak, "resident", lambda self: None)
    assert not reclaim().freed_bytes


def test_pinned_memory_is_given_back_as_well(
    device: Device, gpu: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[str] = []
    accelerator = SimpleNamespace(empty_host_cache=lambda: emptied.append("host"))
    monkeypatch.setattr(torch, "accelerator", accelerator, raising=False)
    reclaim(gpu=gpu, caches=False)
    assert not emptied
    reclaim(gpu=gpu)
    assert emptied == ["host"]
    monkeypatch.setattr(torch, "accelerator", SimpleNamespace(empty_host_cache=lambda: 1 / 0))
    reclaim(gpu=gpu)
    monkeypatch.delattr(torch, "accelerator")  # before torch 2.6
    reclaim(gpu=gpu)


@pytest.fixture
def register() -> Iterator[Callable[[Callable[[int, str], int]], None]]:
    undo: list[Callable[[], None]] = []
    yield lambda yielder: undo.append(register_yielder(yielder))
    for one in undo:
        one()
        one()  # twice is once


def test_others_are_asked_until_there_is_enough(
    register: Callable[[Callable[[int, str], int]], None],
) -> None:
    asked: list[tuple[str, int, str]] = []

    def yielder(name: str, gives: int) -> Callable[[int, str], int]:
        def give(needed: int, key: str) -> int:
            asked.append((name, needed, key))
            return gives

        return give

    def failing(needed: int, key: str) -> int:
        raise RuntimeError("a fault of its own")

    assert ask_yielders(10, KEYS[0]) == 0
    register(yielder("first", 4))
    register(failing)
    register(yielder("negative", -100))
    register(yielder("second", 20))
    register(yielder("third", 20))
    assert ask_yielders(10, KEYS[0]) == 24
    assert asked == [("first", 10, KEYS[0]), ("negative", 6, KEYS[0]), ("second", 6, KEYS[0])]


def test_one_that_is_unregistered_is_asked_no_more() -> None:
    unregister = register_yielder(lambda needed, key: needed)
    assert ask_yielders(10, KEYS[0]) == 10
    unregister()
    unregister()
    assert ask_yielders(10, KEYS[0]) == 0


def test_a_failure_of_another_thread(device: Device, gpu: Accelerator) -> None:
    errors: list[BaseException] = []
    thread = threading.Thread(target=lambda: errors.append(failed(device, 240)))
    thread.start()
    thread.join(30)
    assert device.used == [240, 0]
    reclaim(errors, gpu=gpu)
    assert device.used == [0, 0]


def test_what_is_free_inside_the_heap_goes_back_to_the_system() -> None:
    blocks = [bytearray(b"x" * 100_000) for _ in range(1500)]
    pin = bytearray(b"y" * 100_000)  # without it the end of the heap would go back by itself
    blocks.clear()
    done = reclaim()
    assert done.freed_bytes[HostPeak().key] > 100_000_000
    del pin
