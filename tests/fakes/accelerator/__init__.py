"""A fake GPU for torch: device ``"fakegpu"``, with a capacity, a caching allocator and real errors.

A small C++ backend in torch's own place for foreign devices (PrivateUse1), built once by ``g++``. Tensors,
autograd, optimizers, autocast and `torch.accelerator` work on it as on a GPU; the operators themselves are
the CPU's. `torch.fakegpu` has the face of `torch.cuda`, and what a test can do to the devices::

    fakegpu = install(capacity_bytes=256 << 20)
    x = torch.randn(1024, 1024, device="fakegpu")
    torch.empty(1 << 30, device="fakegpu")      # torch.OutOfMemoryError: fakegpu out of memory. Tried ...
    with fakegpu.hold(8 << 20): ...             # memory without a Python name
    fakegpu.set_other_processes_bytes(64 << 20) # memory of another process
    fakegpu.break_device()                      # the sticky error
    fakegpu.reset()                             # all of this undone

It works in any process whose ``sys.path`` has the folder above ``tests``, a kernel's included.
"""

from __future__ import annotations

from types import ModuleType

__all__ = ["install", "uninstall"]


def install(capacity_bytes: int = 256 << 20, devices: int = 1) -> ModuleType:
    """Let torch have so many devices ``fakegpu`` of that capacity each, and return `torch.fakegpu`.

    Called again, it changes number and capacity and nothing else. The devices count as started
    (``torch.fakegpu.is_initialized()``) once one is used.

    Raises:
        RuntimeError: If the backend cannot be built, or torch has another foreign device already.
    """
    import torch

    if getattr(torch, "fakegpu", None) is None:
        _register()
    fakegpu: ModuleType = torch.fakegpu
    fakegpu.set_device_count(devices)
    for index in range(devices):
        fakegpu.set_capacity(capacity_bytes, index)
    return fakegpu


def uninstall() -> None:
    """Undo `install` as far as torch allows: there are no devices any more, and none counts as started.

    For a process in which other tests follow. The device's name and `torch.fakegpu` stay.
    """
    import torch

    if (fakegpu := getattr(torch, "fakegpu", None)) is not None:
        fakegpu.reset()
        fakegpu.set_device_count(0)


def _register() -> None:
    import torch

    from . import fakegpu
    from .runtime import library

    torch.utils.rename_privateuse1_backend("fakegpu")
    torch._register_device_module("fakegpu", fakegpu)
    torch.utils.generate_methods_for_privateuse1_backend(for_storage=True)
    library.fakegpu_join_autograd()
