"""What a scope found out about this process's memory."""

from __future__ import annotations

from titan_nb.host import process_id
from titan_nb.records import DeviceMemory, MemoryUse

__all__ = ["MB", "NOISE", "near", "ram", "rise"]

MB = 1 << 20
NOISE = 4 * MB
"""What Python may allocate beside the blocks of a test, and what the kernel's batches may hide."""


def ram(use: MemoryUse) -> DeviceMemory:
    return use.devices[f"ram:{process_id()}"]


def rise(use: MemoryUse) -> int:
    return ram(use).peak_bytes - ram(use).before_bytes


def near(found_bytes: int, expected_bytes: int) -> bool:
    return abs(found_bytes - expected_bytes) < NOISE
