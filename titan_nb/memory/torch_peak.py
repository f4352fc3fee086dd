"""Memory that torch's CUDA allocator handed out, and its peak, for each GPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Protocol

from titan_nb.memory.fold import Level

__all__ = ["Allocator", "TorchCuda", "TorchPeak"]


class Allocator(Protocol):
    """A caching allocator with statistics, as torch has one for CUDA."""

    def devices(self) -> Mapping[int, str]:
        """Return the device key of each index; empty as long as the device is not in use."""
        ...

    def stats(self, index: int) -> Mapping[str, Any]:
        """Return the nested statistics of one device: ``["allocated_bytes"]["all"]["peak"]`` and more."""
        ...

    def reset(self, index: int) -> None:
        """Let the peaks of one device start again from what it holds now."""
        ...


class TorchCuda:
    """torch's own CUDA allocator, looked at only once the user has imported torch and started CUDA.

    Starting CUDA takes hundreds of megabytes of GPU memory and makes later forks unsafe, so that is left to
    the user.
    """

    def __init__(self) -> None:
        self._keys: dict[int, str] | None = None

    def devices(self) -> Mapping[int, str]:
        """Return the device key of each index; empty before CUDA was started."""
        cuda = _cuda()
        # Missing while another thread is still importing torch.
        started = getattr(cuda, "is_initialized", None)
        if started is None or not started():
            return {}
        if self._keys is None:
            self._keys = {index: _key(cuda, index) for index in range(cuda.device_count())}
        return self._keys

    def stats(self, index: int) -> Mapping[str, Any]:
        """Return the allocator's nested statistics, several times cheaper than the flat ones."""
        stats: Mapping[str, Any] = _cuda().memory_stats_as_nested_dict(index)
        return stats

    def reset(self, index: int) -> None:
        """Reset the peaks of one device."""
        _cuda().reset_peak_memory_stats(index)


class TorchPeak:
    """The high-water mark of each GPU's allocator.

    It counts the bytes of live tensors, not the allocator's cache, the CUDA context or other processes.
    A reset that the user does inside a window (``torch.cuda.reset_peak_memory_stats``) loses what that
    window held before it, and our resets lower the user's ``torch.cuda.max_memory_allocated``.

    Args:
        allocator: Where the statistics come from.
    """

    source = "torch CUDA allocator"

    def __init__(self, allocator: Allocator | None = None) -> None:
        self._allocator: Allocator = TorchCuda() if allocator is None else allocator

    def take(self) -> dict[str, Level]:
        """Return the level of each GPU and reset its peak; empty when CUDA is not in use."""
        levels = {}
        for index, key in self._allocator.devices().items():
            allocated = self._allocator.stats(index)["allocated_bytes"]["all"]
            levels[key] = Level(allocated["current"], allocated["peak"])
            self._allocator.reset(index)
        return levels


def _cuda() -> Any:
    return getattr(sys.modules.get("torch"), "cuda", None)


def _key(cuda: Any, index: int) -> str:
    """Return the device key, with the UUID spelt as NVML spells it."""
    uuid = getattr(cuda.get_device_properties(index), "uuid", None)
    if uuid is None:
        return f"gpu:cuda{index}"
    text = str(uuid)
    return f"gpu:{text}" if text.startswith(("GPU-", "MIG-")) else f"gpu:GPU-{text}"
