"""An allocator's counters behind torch's own Python functions, in place of those of a build for a GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

__all__ = ["Counters"]

_OTHERS = (
    *("active_bytes", "requested_bytes", "inactive_split_bytes"),
    *("allocation", "active", "segment", "inactive_split"),
)


class Counters:
    """The functions of ``torch._C`` that torch's memory functions of one kind of GPU end in."""

    def __init__(self, devices: int = 2) -> None:
        self.allocated = [0] * devices
        self.reserved = [0] * devices
        self.peaks = [[0, 0] for _ in range(devices)]
        self.resets = 0

    def hold(self, allocated: int, reserved: int | None = None, index: int = 0) -> None:
        self.allocated[index] = allocated
        self.reserved[index] = max(allocated, self.reserved[index]) if reserved is None else reserved
        self._raise(self.peaks[index], index)

    def blip(self, allocated: int, index: int = 0) -> None:
        """Hold so much more for a moment."""
        before = self.allocated[index]
        self.hold(before + allocated, index=index)
        self.hold(before, before, index=index)

    def statistics(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self.allocated):
            raise RuntimeError("Invalid device argument")
        return {
            "allocated_bytes": self._pools(self.allocated[index], self.peaks[index][0]),
            "reserved_bytes": self._pools(self.reserved[index], self.peaks[index][1]),
            **{name: self._pools(0, 0) for name in _OTHERS},
            **{name: self._pools(0, 0)["all"] for name in ("oversize_allocations", "oversize_segments")},
            "num_ooms": 3,
            "num_alloc_retries": 0,
        }

    def reset(self, index: int) -> None:
        if not 0 <= index < len(self.allocated):
            raise RuntimeError("Invalid device argument")
        self.resets += 1
        self.peaks[index] = [0, 0]
        self._raise(self.peaks[index], index)

    def connect(self, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
        """Put the counters behind the functions of `torch.cuda` or `torch.xpu`, and `torch.accelerator`."""
        import torch

        module = getattr(torch, kind)
        monkeypatch.setattr(module, "_initialized", True)
        monkeypatch.setattr(module, "device_count", lambda: len(self.allocated))
        monkeypatch.setattr(module, "is_available", lambda: True)
        monkeypatch.setattr(module, "current_device", lambda: 1)
        monkeypatch.setattr(module, "get_device_properties", lambda index: SimpleNamespace(name="A GPU"))
        for name, function in {
            f"_{kind}_memoryStats": self.statistics,
            f"_{kind}_resetPeakMemoryStats": self.reset,
            "_accelerator_getDeviceStats": self.statistics,
            "_accelerator_resetPeakStats": self.reset,
            "_accelerator_isAllocatorInitialized": lambda: True,
        }.items():
            monkeypatch.setattr(torch._C, name, function, raising=False)

    def _raise(self, peaks: list[int], index: int) -> None:
        peaks[0] = max(peaks[0], self.allocated[index])
        peaks[1] = max(peaks[1], self.reserved[index])

    @staticmethod
    def _pools(current: int, peak: int) -> dict[str, Any]:
        one = {"current": current, "peak": peak, "allocated": current, "freed": 0}
        return {"all": one, "small_pool": dict.fromkeys(one, 0), "large_pool": dict(one)}
