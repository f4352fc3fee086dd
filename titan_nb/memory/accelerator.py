"""The kind of GPU that torch uses in this process, and what its allocator counts, without ever starting it.

Starting CUDA takes hundreds of megabytes of GPU memory and makes later forks unsafe, so that is left to the
user: until he has imported torch and used a GPU, there is no accelerator here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["Accelerator", "accelerator"]

_KINDS = ("cuda", "xpu")


class Accelerator:
    """One kind of GPU with torch's allocator for it.

    Args:
        kind: What `torch.device` calls it: ``cuda``, ``xpu``, ``mps``, or the name of a registered backend.
        module: Its module in torch, such as ``torch.cuda``.
    """

    def __init__(self, kind: str, module: Any) -> None:
        self.kind = kind
        self._module = module
        self._keys: dict[int, str] | None = None

    def __repr__(self) -> str:
        return f"<Accelerator {self.kind}>"

    @property
    def source(self) -> str:
        """The allocator's name in reports, such as ``torch CUDA allocator``."""
        name = self.kind.upper() if self.kind in {"cuda", "xpu", "mps"} else self.kind
        return f"torch {name} allocator"

    @property
    def has_peaks(self) -> bool:
        """Whether the allocator keeps a peak of its own; Apple's does not."""
        return self.kind != "mps"

    def keys(self) -> Mapping[int, str]:
        """Return the device key of each index, with the UUID spelt as NVML spells it."""
        if self._keys is None:
            self._keys = {index: self._key(index) for index in range(self._module.device_count())}
        return self._keys

    def statistics(self, index: int) -> Mapping[str, Any]:
        """Return the allocator's nested statistics: ``["allocated_bytes"]["all"]["peak"]`` and more.

        Several times cheaper than the flat ones of ``memory_stats``.

        Raises:
            RuntimeError: If the device cannot be asked, or its allocator keeps none (see `has_peaks`).
        """
        nested = getattr(self._module, "memory_stats_as_nested_dict", None)
        if nested is not None:
            return nested(index)  # type: ignore[no-any-return]
        if not self.has_peaks:
            raise RuntimeError("the MPS allocator keeps no statistics")
        return _torch()._C._accelerator_getDeviceStats(index)  # type: ignore[no-any-return]

    def reset_peaks(self, index: int) -> None:
        """Let the peaks of one device start again from what it holds now."""
        reset = getattr(self._module, "reset_peak_memory_stats", None)
        if reset is not None:
            reset(index)
        else:
            _torch()._C._accelerator_resetPeakStats(index)

    def allocated_bytes(self, index: int) -> int:
        """Return what live tensors hold on one device."""
        if not self.has_peaks:
            return int(self._module.current_allocated_memory())
        return int(self.statistics(index)["allocated_bytes"]["all"]["current"])

    def reserved_bytes(self, index: int) -> int:
        """Return what the allocator holds on one device, its cache included."""
        if not self.has_peaks:
            return int(self._module.driver_allocated_memory())
        return int(self.statistics(index)["reserved_bytes"]["all"]["current"])

    def free_and_total_bytes(self, index: int) -> tuple[int, int] | None:
        """Return what the driver says is free on one device, and all it has; None where it does not say."""
        ask = getattr(self._module, "mem_get_info", None)
        if ask is None:
            ask = getattr(getattr(_torch(), "accelerator", None), "get_memory_info", None)
        if ask is None or not self.has_peaks:
            return None
        free, total = ask(index)
        return int(free), int(total)

    def empty_cache(self) -> None:
        """Give the allocator's unused blocks back to the driver, on every device."""
        empty = getattr(self._module, "empty_cache", None)
        (_torch().accelerator.empty_cache if empty is None else empty)()

    def fraction(self, index: int) -> float | None:
        """Return the fraction of the device that this process may reserve; None where nobody keeps one."""
        ask = getattr(self._module, "get_per_process_memory_fraction", None)
        return None if ask is None else float(ask(index))

    def set_fraction(self, fraction: float, index: int) -> None:
        """Let this process reserve at most ``fraction`` of one device.

        Raises:
            RuntimeError: If the allocator cannot be limited.
        """
        change = getattr(self._module, "set_per_process_memory_fraction", None)
        if change is None:
            raise RuntimeError(f"the {self.source} cannot be limited")
        change(fraction, index)

    def current_index(self) -> int:
        """Return the index of the device on which new tensors are made."""
        ask = getattr(self._module, "current_device", None)
        return 0 if ask is None else int(ask())

    def _key(self, index: int) -> str:
        describe = getattr(self._module, "get_device_properties", None)
        uuid = None if describe is None else getattr(describe(index), "uuid", None)
        if uuid is None:
            return f"gpu:{self.kind}{index}"
        text = str(uuid)
        return f"gpu:{text}" if text.startswith(("GPU-", "MIG-")) else f"gpu:GPU-{text}"


_found: Accelerator | None = None


def accelerator() -> Accelerator | None:
    """Return the accelerator that this process uses; None until the user has started one."""
    global _found
    torch = _torch()
    if torch is None:
        return None
    kind = _started_kind(torch)
    if kind is None:
        return None
    if _found is None or _found.kind != kind:
        _found = Accelerator(kind, getattr(torch, kind))
    return _found


def _started_kind(torch: Any) -> str | None:
    for kind in (*_KINDS, _registered_backend(torch)):
        # Missing while another thread is still importing torch.
        started = getattr(getattr(torch, kind or "", None), "is_initialized", None)
        if started is not None and started():
            return kind
    mps = getattr(getattr(torch, "backends", None), "mps", None)
    return "mps" if mps is not None and hasattr(torch, "mps") and mps.is_available() else None


def _registered_backend(torch: Any) -> str | None:
    """Return the name under which a maker of hardware has registered his own backend."""
    ask = getattr(getattr(torch, "_C", None), "_get_privateuse1_backend_name", None)
    return None if ask is None else ask()


def _torch() -> Any:
    return sys.modules.get("torch")
