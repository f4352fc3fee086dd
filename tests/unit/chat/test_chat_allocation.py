"""Chunks with limits over a chat memory."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes.accelerator import install, uninstall
from titan_nb.chat import ChatMemory
from titan_nb.chat import allocation as allocation_module
from titan_nb.chat.allocation import MemoryManager
from titan_nb.errors import ChatError, ResourceError, SettingsError


@pytest.fixture
def manager() -> MemoryManager:
    return MemoryManager(ChatMemory(), max_chunks=3, max_chunk_bytes=4096)


def test_a_chunk_has_a_size_a_chat_and_times(manager: MemoryManager) -> None:
    chunk = manager.allocate(1024, "a", {"topic": "x"})
    assert (chunk.size, chunk.used, chunk.chat_id, chunk.metadata) == (1024, 0, "a", {"topic": "x"})
    assert chunk.created == chunk.last_accessed
    assert chunk.created.tzinfo is not None
    assert manager.chunk(chunk.id) == chunk
    manager.process_chunk(chunk.id, np.eye(3))
    later = manager.chunk(chunk.id)
    assert later.used == 36
    assert later.last_accessed > chunk.last_accessed
    assert later.created == chunk.created


def test_rows_go_into_the_chat_of_their_chunk(manager: MemoryManager) -> None:
    first, second, other = (manager.allocate(1024, chat) for chat in ("a", "a", "b"))
    assert manager.processChunk(first.id, [[3.0, 4.0]]) == [0]
    assert manager.process_chunk(second.id, torch.tensor([[0.0, 2.0]])) == [1]
    assert manager.process_chunk(other.id, np.eye(3)) == [2, 3, 4]
    assert [hit.id for hit in manager.memory.search([0.0, 1.0], chat_id="a")] == [1, 0]
    assert manager.memory.get(0).metadata == {"chunk": first.id}
    assert manager.release(first.id) == 1
    assert [item.id for item in manager.memory.list()] == [1, 2, 3, 4]
    with pytest.raises(ChatError, match="it was released, or never allocated"):
        manager.process_chunk(first.id, [[3.0, 4.0]])
    with pytest.raises(ChatError, match="there is no chunk 'x'"):
        manager.release("x")


def test_limits(manager: MemoryManager) -> None:
    with pytest.raises(ResourceError, match="above the limit") as raised:
        manager.allocate(4097, "a")
    assert (raised.value.requested_bytes, raised.value.available_bytes) == (4097, 4096)
    chunk = manager.allocate(100, "a")
    manager.allocate(4096, "a")
    manager.allocate(1, "b")
    with pytest.raises(ResourceError, match="there are 3 chunks, as many as may be: release one first"):
        manager.allocate(1, "c")
    manager.process_chunk(chunk.id, np.eye(4))
    with pytest.raises(ResourceError, match="has 36 B left: allocate another one") as raised:
        manager.process_chunk(chunk.id, np.eye(4))
    assert (raised.value.requested_bytes, raised.value.available_bytes) == (64, 36)
    assert len(manager.memory) == 4
    manager.release(chunk.id)
    manager.allocate(1, "c")
    for size in (0, -1, True, 2.5, "64"):
        with pytest.raises(SettingsError, match="size is"):
            manager.allocate(size, "a")  # type: ignore[arg-type]
    with pytest.raises(ChatError, match="chat_id is ''"):
        manager.allocate(1, "")
    with pytest.raises(SettingsError, match="max_chunks is 0"):
        MemoryManager(ChatMemory(), max_chunks=0)


def test_the_defaults_are_those_of_the_first_design() -> None:
    manager = MemoryManager(ChatMemory())
    for _ in range(1000):
        manager.allocate(64 << 20, "a")
    with pytest.raises(ResourceError):
        manager.allocate(1, "a")
    with pytest.raises(ResourceError):
        MemoryManager(ChatMemory()).allocate((64 << 20) + 1, "a")


def test_what_cannot_be_stored_takes_no_room(manager: MemoryManager) -> None:
    chunk = manager.allocate(1000, "a")
    manager.process_chunk(chunk.id, np.eye(3))
    for bad in (np.zeros((1, 3)), np.eye(4), np.full((1, 3), np.nan)):
        with pytest.raises(ChatError):
            manager.process_chunk(chunk.id, bad)
    assert manager.chunk(chunk.id).used == 36
    assert manager.get_metrics()["hpc"]["active_processes"] == 0


def test_a_full_gpu_is_a_resource_error(manager: MemoryManager, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = manager.allocate(1000, "a")
    error: list[BaseException] = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")]

    def full(*_: Any, **__: Any) -> list[int]:
        raise error[0]

    monkeypatch.setattr(manager.memory, "add", full)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (4096, 8192))

    class Gpu:
        kind = "cuda"

        def current_index(self) -> int:
            return 1

    monkeypatch.setattr(allocation_module, "accelerator", Gpu)
    with pytest.raises(
        ResourceError, match="memory is short on cuda:1: storing 3 rows needs 36 bytes"
    ) as raised:
        manager.process_chunk(chunk.id, np.eye(3))
    assert raised.value.available_bytes == 4096
    error[0] = MemoryError()
    with pytest.raises(ResourceError, match="memory is short on cpu"):
        manager.process_chunk(chunk.id, np.eye(3))
    error[0] = RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        manager.process_chunk(chunk.id, np.eye(3))
    assert manager.chunk(chunk.id).used == 0


def test_metrics(manager: MemoryManager, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = manager.allocate(1000, "a")
    manager.allocate(1000, "b")
    manager.process_chunk(chunk.id, np.eye(3))
    monkeypatch.setattr(allocation_module, "accelerator", lambda: None)
    metrics = manager.getMetrics()
    assert (metrics["memory"]["chunks"], metrics["memory"]["usage"]) == (2, 36)
    assert metrics["memory"]["available"] > 0  # type: ignore[operator]
    assert metrics["hpc"]["cpu_memory"] > 1 << 20  # type: ignore[operator]
    assert (metrics["hpc"]["gpu_memory"], metrics["hpc"]["active_processes"]) == (None, 0)


def test_the_memory_of_a_gpu_in_use_is_counted(manager: MemoryManager) -> None:
    gc.collect()
    install(64 << 20)
    try:
        held = torch.ones(1 << 18, device="fakegpu")
        assert manager.get_metrics()["hpc"]["gpu_memory"] >= held.nbytes  # type: ignore[operator]
        del held
        gc.collect()
    finally:
        uninstall()


def test_calls_under_way_are_counted(manager: MemoryManager, monkeypatch: pytest.MonkeyPatch) -> None:
    chunk = manager.allocate(1000, "a")
    begun, go_on = threading.Event(), threading.Event()
    plain = manager.memory.add

    def slow(*args: Any, **options: Any) -> Any:
        begun.set()
        assert go_on.wait(30)
        return plain(*args, **options)

    monkeypatch.setattr(manager.memory, "add", slow)
    thread = threading.Thread(target=manager.process_chunk, args=(chunk.id, np.eye(3)))
    thread.start()
    assert begun.wait(30)
    assert manager.get_metrics()["hpc"]["active_processes"] == 1
    go_on.set()
    thread.join(30)
    assert manager.get_metrics()["hpc"]["active_processes"] == 0
    assert manager.get_metrics()["memory"]["usage"] == 36
