"""The chat memory: embeddings and their texts, kept under chat ids and searched exactly.

Importing this package loads none of its modules; each name does when it is first used.
"""

from __future__ import annotations

import importlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from titan_nb.chat.allocation import MemoryManager
    from titan_nb.chat.encoder import Encoder
    from titan_nb.chat.memory import ChatMemory
    from titan_nb.chat.policy import Policy
    from titan_nb.chat.process import process_embeddings
    from titan_nb.chat.records import ChatStats, Compacted, Hit, Hits, Item, MemoryStats
    from titan_nb.chat.recover import Recovered
    from titan_nb.chat.service import EmbeddingService, Processed, create_service

__all__ = [
    "ChatMemory",
    "ChatStats",
    "Compacted",
    "EmbeddingService",
    "Encoder",
    "Hit",
    "Hits",
    "Item",
    "MemoryManager",
    "MemoryStats",
    "Policy",
    "Processed",
    "Recovered",
    "create_service",
    "default",
    "process_embeddings",
    "set_default",
]

_HOMES = {
    "ChatMemory": "memory",
    "ChatStats": "records",
    "Compacted": "records",
    "EmbeddingService": "service",
    "Encoder": "encoder",
    "Hit": "records",
    "Hits": "records",
    "Item": "records",
    "MemoryManager": "allocation",
    "MemoryStats": "records",
    "Policy": "policy",
    "Processed": "service",
    "Recovered": "recover",
    "create_service": "service",
    "process_embeddings": "process",
}

_default: ChatMemory | None = None
_default_lock = threading.Lock()


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def default() -> ChatMemory:
    """Return the kernel's own memory, made at first use."""
    global _default
    with _default_lock:
        if _default is None:
            from titan_nb.chat.memory import ChatMemory

            _default = ChatMemory()
        return _default


def set_default(memory: ChatMemory) -> ChatMemory | None:
    """Make ``memory`` the kernel's own, and return the one before, if there was one; it is not closed."""
    global _default
    with _default_lock:
        before, _default = _default, memory
        return before
