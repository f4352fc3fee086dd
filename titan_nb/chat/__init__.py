"""The chat memory: embeddings and their texts, kept in the kernel under chat ids.

Importing this package loads neither torch nor NumPy; the first embeddings do.
"""

from __future__ import annotations

import threading

from titan_nb.chat.encoder import Encoder
from titan_nb.chat.memory import ChatMemory
from titan_nb.chat.process import process_embeddings
from titan_nb.chat.records import ChatStats, Hit, MemoryStats

__all__ = ["ChatMemory", "ChatStats", "Encoder", "Hit", "MemoryStats", "default", "process_embeddings"]

_default: ChatMemory | None = None
_default_lock = threading.Lock()


def default() -> ChatMemory:
    """Return the kernel's own memory, made at first use."""
    global _default
    with _default_lock:
        if _default is None:
            _default = ChatMemory()
        return _default
