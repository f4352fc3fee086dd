"""How many bytes the tensors of each device hold, storage by storage, now and at most."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

__all__ = ["BLOCK_BYTES", "Storages"]

BLOCK_BYTES = 512
"""What the caching allocator of an accelerator rounds every allocation up to (c10 ``kMinBlockSize``)."""


class Storages:
    """The storages that are alive. Views share one, and it counts once, until the last of them dies."""

    def __init__(self) -> None:
        self.now_bytes: dict[str, int] = {}
        self.peak_bytes: dict[str, int] = {}
        self._alive: dict[int, tuple[weakref.ref[Any], str, int]] = {}
        self._stands_for: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def start(self, resident_bytes: Mapping[str, int]) -> None:
        """Let the peaks start from what each device holds, storages without a Python name included."""
        self.now_bytes = dict(resident_bytes)
        self.peak_bytes = dict(resident_bytes)

    def hold(self, storage: Any, device: str) -> None:
        """Count a storage from now on to its death, or count anew one that was resized."""
        key = storage._cdata
        if key in self._stands_for:
            return
        size = _rounded(storage.nbytes(), device)
        known = self._alive.get(key)
        if known is None:
            self._alive[key] = weakref.ref(storage, lambda _: self._died(key)), device, size
        elif known[2] == size:
            return
        else:
            self._alive[key] = known[0], device, size
            size -= known[2]
        self._add(device, size)

    def follow(self, storage: Any, device: str) -> int:
        """Follow to its death a storage that `start` counts; return its size, or 0 if it was seen before."""
        key = storage._cdata
        if key in self._alive:
            return 0
        size = _rounded(storage.nbytes(), device)
        self._alive[key] = weakref.ref(storage, lambda _: self._died(key)), device, size
        return size

    def link(self, fake: Any, real: Any) -> None:
        """Let ``fake`` stand for ``real``: it counts as nothing, and ``real`` lives as long as it does."""
        key = fake._cdata
        if key not in self._stands_for:
            self._stands_for[key] = weakref.ref(fake, lambda _: self._stands_for.pop(key)), real

    def _add(self, device: str, size_bytes: int) -> None:
        now = self.now_bytes[device] = self.now_bytes.get(device, 0) + size_bytes
        self.peak_bytes[device] = max(self.peak_bytes.get(device, 0), now)

    def _died(self, key: int) -> None:
        _, device, size = self._alive.pop(key)
        self._add(device, -size)


def _rounded(size_bytes: int, device: str) -> int:
    return size_bytes if device == "cpu" else -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
