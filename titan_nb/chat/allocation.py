"""Chunks of a chat memory with a size of their own."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from titan_nb.chat.annotations import read_chat_id
from titan_nb.chat.normalise import unit_rows
from titan_nb.errors import ChatError, ResourceError
from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.attempts import count_of
from titan_nb.memory.shortage import is_shortage, of_the_host, resource_error
from titan_nb.units import byte_size

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.memory import ChatMemory

__all__ = ["AllocatedChunk", "MemoryManager"]


@dataclass(frozen=True, slots=True)
class AllocatedChunk:
    """Room for embeddings of one chat.

    Attributes:
        id: Its name.
        chat_id: Whose it is.
        size: The most bytes its rows may take, as float32.
        used: The bytes of those that it was given.
        created: When it was allocated, in UTC.
        last_accessed: When it was last used, in UTC.
        metadata: What the user wrote down about it.
    """

    id: str
    chat_id: str
    size: int
    used: int
    created: datetime
    last_accessed: datetime
    metadata: Mapping[str, Any]


class MemoryManager:
    """Gives out chunks of a chat memory; a chat may have several.

    A chunk is a limit, and nothing is reserved for it: its rows take memory when they come. They are items of
    the memory like all others, with ``{"chunk": id}`` as their metadata.

    Args:
        memory: The chat memory that keeps the rows.
        max_chunks: How many chunks there may be at a time.
        max_chunk_bytes: How large one may be.

    Raises:
        SettingsError: If a limit is no whole number of at least 1.
    """

    def __init__(
        self, memory: ChatMemory, *, max_chunks: int = 1000, max_chunk_bytes: int = 64 * 2**20
    ) -> None:
        self.memory = memory
        self._max_chunks = count_of("max_chunks", max_chunks)
        self._max_chunk_bytes = count_of("max_chunk_bytes", max_chunk_bytes)
        self._chunks: dict[str, AllocatedChunk] = {}
        self._active = 0
        self._lock = threading.Lock()

    def allocate(self, size: int, chat_id: str, metadata: Mapping[str, Any] | None = None) -> AllocatedChunk:
        """Return a new chunk of ``size`` bytes for a chat.

        Raises:
            ChatError: If ``chat_id`` is not a text, or empty.
            ResourceError: If it is too large, or there are too many.
            SettingsError: If ``size`` is no whole number of at least 1.
        """
        wanted, name = count_of("size", size), read_chat_id(chat_id)
        if wanted > self._max_chunk_bytes:
            largest = byte_size(self._max_chunk_bytes)
            raise _refusal(
                f"a chunk of {byte_size(wanted)} is above the limit of {largest}: allocate several",
                wanted,
                self._max_chunk_bytes,
            )
        now = datetime.now(timezone.utc)
        chunk = AllocatedChunk(uuid.uuid4().hex, name, wanted, 0, now, now, dict(metadata or {}))
        with self._lock:
            if len(self._chunks) >= self._max_chunks:
                raise _refusal(
                    f"there are {len(self._chunks)} chunks, as many as may be: release one first", wanted, 0
                )
            self._chunks[chunk.id] = chunk
        return chunk

    def chunk(self, chunk_id: str) -> AllocatedChunk:
        """Return a chunk as it is now.

        Raises:
            ChatError: If there is none of this name.
        """
        with self._lock:
            return self._held(chunk_id)

    def process_chunk(self, chunk_id: str, embeddings: Any) -> Sequence[int | None]:
        """Normalise embeddings of shape (n, d), store them in the chunk's chat, and return their ids.

        Raises:
            ChatError: If there is no such chunk, or the embeddings cannot be stored.
            ResourceError: If the chunk has no room for them, or memory is short.
        """
        with self._lock:
            self._held(chunk_id)
            self._active += 1
        try:
            rows = unit_rows(embeddings)
            chunk = self._use(chunk_id, rows.nbytes)
            try:
                return self._store(chunk, rows)
            except BaseException:
                self._use(chunk_id, -rows.nbytes)
                raise
        finally:
            with self._lock:
                self._active -= 1

    def release(self, chunk_id: str) -> int:
        """Drop a chunk with its rows, and return how many rows there were.

        Raises:
            ChatError: If there is no such chunk.
        """
        with self._lock:
            chunk = self._held(chunk_id)
            del self._chunks[chunk_id]
        return self.memory.forget(chunk.chat_id, where={"chunk": chunk.id})

    def get_metrics(self) -> dict[str, dict[str, int | None]]:
        """Return what is in use.

        Returns:
            ``memory``: ``chunks``, their number; ``usage``, bytes of their rows; ``available``, bytes that
            the host has left. ``hpc``: ``gpu_memory``, bytes of torch's tensors on the GPU in use, None
            without one; ``cpu_memory``, resident bytes of this process; ``active_processes``, calls of
            `process_chunk` at this moment.
        """
        import psutil

        with self._lock:
            chunks, active = list(self._chunks.values()), self._active
        gpu = accelerator()
        return {
            "memory": {
                "chunks": len(chunks),
                "usage": sum(chunk.used for chunk in chunks),
                "available": int(psutil.virtual_memory().available),
            },
            "hpc": {
                "gpu_memory": None if gpu is None else gpu.allocated_bytes(gpu.current_index()),
                "cpu_memory": int(psutil.Process().memory_info().rss),
                "active_processes": active,
            },
        }

    # As the first design of this memory, which was written in another language, spells them.
    processChunk = process_chunk  # noqa: N815
    getMetrics = get_metrics  # noqa: N815

    def _held(self, chunk_id: str) -> AllocatedChunk:
        chunk = self._chunks.get(chunk_id)
        if chunk is None:
            raise ChatError(f"there is no chunk {chunk_id!r}: it was released, or never allocated")
        return chunk

    def _use(self, chunk_id: str, more_bytes: int) -> AllocatedChunk:
        """Count bytes of rows that come into a chunk, or do not after all, if they fit."""
        with self._lock:
            chunk = self._held(chunk_id)
            left = chunk.size - chunk.used
            if more_bytes > left:
                raise _refusal(
                    f"the rows take {byte_size(more_bytes)}, and chunk {chunk_id!r} has {byte_size(left)} "
                    "left: allocate another one",
                    more_bytes,
                    left,
                )
            chunk = replace(chunk, used=chunk.used + more_bytes, last_accessed=datetime.now(timezone.utc))
            self._chunks[chunk_id] = chunk
        return chunk

    def _store(self, chunk: AllocatedChunk, rows: np.ndarray) -> Sequence[int | None]:
        try:
            return self.memory.add(chunk.chat_id, rows, metadata={"chunk": chunk.id})
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            gpu = None if of_the_host(error) else accelerator()
            device = "cpu" if gpu is None else f"{gpu.kind}:{gpu.current_index()}"
            raise resource_error(f"storing {len(rows)} rows", rows.nbytes, device) from error


def _refusal(message: str, requested_bytes: int, available_bytes: int) -> ResourceError:
    return ResourceError(
        message, requested_bytes=requested_bytes, available_bytes=available_bytes, device="chat memory"
    )
