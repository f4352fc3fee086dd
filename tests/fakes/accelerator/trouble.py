"""What a test can do to the devices."""

from __future__ import annotations

import ctypes

import torch

from .memory import empty_cache, reset_accumulated_memory_stats, reset_peak_memory_stats
from .runtime import Device, device_count, index_of, init, library

__all__ = [
    "Held",
    "break_device",
    "hold",
    "repair_device",
    "reset",
    "set_capacity",
    "set_other_processes_bytes",
]

_BROKEN = (
    "fakegpu error: device-side assert triggered\n"
    "fakegpu kernel errors might be asynchronously reported at some other API call, "
    "so the stacktrace below might be incorrect."
)


class Held:
    """Device memory that no Python object names, as a library's workspace is. Given back by `release`."""

    def __init__(self, address: int) -> None:
        self._address: int | None = address

    def release(self) -> None:
        """Give the memory back to the allocator; a second time does nothing."""
        address, self._address = self._address, None
        if address is not None:
            library.fakegpu_give_back(address)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def hold(size_bytes: int, device: Device = None) -> Held:
    """Take device memory without a Python name; it stays taken when the handle is dropped.

    Raises:
        torch.OutOfMemoryError: If there is no room.
    """
    init()
    why = ctypes.create_string_buffer(1024)
    address = library.fakegpu_take(index_of(device), size_bytes, why, len(why))
    if not address:
        raise torch.OutOfMemoryError(why.value.decode())
    return Held(address)


def set_capacity(size_bytes: int, device: Device = None) -> None:
    """Let a device have so much memory; what it holds beyond that, it keeps."""
    library.fakegpu_set_capacity(index_of(device), size_bytes)


def set_other_processes_bytes(size_bytes: int, device: Device = None) -> None:
    """Let other processes hold so much of a device."""
    library.fakegpu_set_others(index_of(device), size_bytes)


def break_device(message: str = _BROKEN) -> None:
    """Let every use of a device fail from now on with `torch.AcceleratorError`, as a sticky CUDA error does.

    Tensors can still be freed, and statistics be read.
    """
    library.fakegpu_break(message.encode())


def repair_device() -> None:
    """Undo `break_device`."""
    library.fakegpu_break(None)


def reset() -> None:
    """Undo all that a test did to the devices: they are as `install` left them, but for what is still held.

    Faults and limits go, caches are emptied, statistics start again, device 0 is the current one, and
    the runtime counts as not started.
    """
    repair_device()
    for index in range(device_count()):
        library.fakegpu_set_others(index, 0)
        library.fakegpu_set_fraction(index, -1.0)
    empty_cache()
    for index in range(device_count()):
        reset_peak_memory_stats(index)
        reset_accumulated_memory_stats(index)
    torch._C._accelerator_setDeviceIndex(0)
    library.fakegpu_stop()
