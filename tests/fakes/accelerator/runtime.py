"""Which devices there are, which is the current one, and whether the runtime has started."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .controls import load

__all__ = [
    "Device",
    "DeviceProperties",
    "current_device",
    "current_stream",
    "device",
    "device_count",
    "get_amp_supported_dtype",
    "get_device_name",
    "get_device_properties",
    "index_of",
    "init",
    "is_available",
    "is_bf16_supported",
    "is_in_bad_fork",
    "is_initialized",
    "library",
    "set_device",
    "set_device_count",
    "synchronize",
]

Device = Any
"""An index, ``"fakegpu:1"``, a `torch.device`, or None for the current device."""

library = load()
_count = 0


def index_of(device: Device = None) -> int:
    """Return the index of a device.

    Raises:
        RuntimeError: If there is no such device.
    """
    if isinstance(device, str):
        device = torch.device(device)
    if isinstance(device, torch.device):
        if device.type != "fakegpu":
            raise ValueError(f"Expected a fakegpu device, but got: {device}")
        device = device.index
    index = library.fakegpu_current_device() if device is None else int(device)
    if not 0 <= index < _count:
        raise RuntimeError(f"fakegpu error: invalid device ordinal {index} of {_count}")
    return index


def init() -> None:
    """Start the runtime, as every use of a device does."""
    torch._C._accelerator_synchronizeDevice(0)


def is_available() -> bool:
    return _count > 0


def is_initialized() -> bool:
    return bool(library.fakegpu_started()) and not is_in_bad_fork()


def is_in_bad_fork() -> bool:
    return bool(library.fakegpu_forked())


def device_count() -> int:
    return _count


def current_device() -> int:
    init()
    return index_of()


def set_device(device: Device) -> None:
    torch._C._accelerator_setDeviceIndex(index_of(device))


@contextmanager
def device(device: Device) -> Iterator[None]:
    """Make a device the current one while the block runs."""
    before = torch._C._accelerator_exchangeDevice(index_of(device))
    try:
        yield
    finally:
        torch._C._accelerator_setDeviceIndex(before)


def synchronize(device: Device = None) -> None:
    torch._C._accelerator_synchronizeDevice(index_of(device))


def current_stream(device: Device = None) -> torch.Stream:
    return torch._C._accelerator_getStream(index_of(device))


@dataclass(frozen=True)
class DeviceProperties:
    """What a device is; ``uuid`` and ``total_memory`` as `torch.cuda` has them."""

    name: str
    uuid: uuid.UUID
    total_memory: int
    major: int = 1
    minor: int = 0


def get_device_properties(device: Device = None) -> DeviceProperties:
    init()
    index = index_of(device)
    total = int(library.fakegpu_capacity(index))
    return DeviceProperties(f"Fake GPU {index}", uuid.UUID(int=0xFA4E << 112 | index), total)


def get_device_name(device: Device = None) -> str:
    return get_device_properties(device).name


def get_amp_supported_dtype() -> list[torch.dtype]:
    return [torch.bfloat16, torch.float16]


def is_bf16_supported() -> bool:
    return True


def set_device_count(devices: int) -> None:
    """Let there be so many devices."""
    global _count
    most = library.fakegpu_max_devices()
    if not 0 <= devices <= most:
        raise ValueError(f"from 0 to {most} fake devices, not {devices}")
    library.fakegpu_set_device_count(devices)
    _count = devices
