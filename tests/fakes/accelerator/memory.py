"""Device memory: what `torch.cuda` tells of it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import torch

from .runtime import Device, index_of, init, is_initialized, library

__all__ = [
    "empty_cache",
    "get_per_process_memory_fraction",
    "max_memory_allocated",
    "max_memory_reserved",
    "mem_get_info",
    "memory_allocated",
    "memory_reserved",
    "memory_snapshot",
    "memory_stats",
    "memory_stats_as_nested_dict",
    "reset_accumulated_memory_stats",
    "reset_peak_memory_stats",
    "set_per_process_memory_fraction",
]


def mem_get_info(device: Device = None) -> tuple[int, int]:
    """Return what is free on the device, with all processes counted, and what it has, in bytes."""
    return torch._C._accelerator_getMemoryInfo(index_of(device))


def memory_stats_as_nested_dict(device: Device = None) -> dict[str, Any]:
    if not is_initialized():
        return {}
    return torch._C._accelerator_getDeviceStats(index_of(device))


def memory_stats(device: Device = None) -> dict[str, int]:
    """Return the statistics under flat names, such as ``allocated_bytes.all.peak``."""
    return dict(sorted(_flat("", memory_stats_as_nested_dict(device))))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, int]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, inner)
    else:
        yield prefix, value


def memory_allocated(device: Device = None) -> int:
    return memory_stats(device).get("allocated_bytes.all.current", 0)


def max_memory_allocated(device: Device = None) -> int:
    return memory_stats(device).get("allocated_bytes.all.peak", 0)


def memory_reserved(device: Device = None) -> int:
    return memory_stats(device).get("reserved_bytes.all.current", 0)


def max_memory_reserved(device: Device = None) -> int:
    return memory_stats(device).get("reserved_bytes.all.peak", 0)


def reset_peak_memory_stats(device: Device = None) -> None:
    torch._C._accelerator_resetPeakStats(index_of(device))


def reset_accumulated_memory_stats(device: Device = None) -> None:
    torch._C._accelerator_resetAccumulatedStats(index_of(device))


def empty_cache() -> None:
    if is_initialized():
        torch._C._accelerator_emptyCache()


def set_per_process_memory_fraction(fraction: float, device: Device = None) -> None:
    init()
    if not isinstance(fraction, float):
        raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    library.fakegpu_set_fraction(index_of(device), fraction)


def get_per_process_memory_fraction(device: Device = None) -> float:
    init()
    return float(library.fakegpu_fraction(index_of(device)))


def memory_snapshot(mempool_id: Any = None, include_traces: bool = True) -> list[dict[str, Any]]:
    """Return the segments of all devices, each with its one block, by address."""
    return [_segment(*row) for row in sorted(_rows())]


def _rows() -> list[tuple[int, ...]]:
    room = 64
    while True:
        numbers = (ctypes.c_uint64 * (5 * room))()
        found = library.fakegpu_blocks(numbers, room)
        if found <= room:
            return [tuple(numbers[5 * row : 5 * row + 5]) for row in range(found)]
        room = 2 * found


def _segment(device: int, address: int, size: int, requested: int, active: int) -> dict[str, Any]:
    held = size if active else 0
    block = {
        "address": address,
        "size": size,
        "requested_size": requested,
        "state": "active_allocated" if active else "inactive",
        "frames": [],
    }
    return {
        "device": device,
        "address": address,
        "total_size": size,
        "allocated_size": held,
        "active_size": held,
        "requested_size": requested if active else 0,
        "stream": 0,
        "segment_type": "small" if size <= 1 << 20 else "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": [],
        "blocks": [block],
    }
