"""Two devices that only count, and blocks of their memory."""

from __future__ import annotations

import weakref
from typing import Any

KEYS = ["gpu:fake0", "gpu:fake1"]


class Device:
    """Two devices with a cache each, as torch's module for one kind of GPU shows them."""

    def __init__(self) -> None:
        self.used = [0, 0]
        self.reserved = [0, 0]
        self.fault: Exception | None = None

    def device_count(self) -> int:
        return 2

    def memory_stats_as_nested_dict(self, index: int) -> dict[str, Any]:
        if self.fault is not None:
            raise self.fault
        return {
            "allocated_bytes": {"all": {"current": self.used[index]}},
            "reserved_bytes": {"all": {"current": self.reserved[index]}},
        }

    def empty_cache(self) -> None:
        if self.fault is not None:
            raise self.fault
        self.reserved = list(self.used)


class Block:
    """So many bytes of a device for as long as it lives."""

    def __init__(self, device: Device, size_bytes: int, index: int = 0) -> None:
        device.used[index] += size_bytes
        device.reserved[index] = max(device.reserved[index], device.used[index])
        weakref.finalize(self, self._end, device, size_bytes, index)

    @staticmethod
    def _end(device: Device, size_bytes: int, index: int) -> None:
        device.used[index] -= size_bytes
