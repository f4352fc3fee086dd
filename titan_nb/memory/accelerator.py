"""The kind of GPU that torch uses in this process, and what its allocator counts, without ever starting it.

Starting CUDA takes hundreds of megabytes of GPU memory and makes later forks unsafe, so that is left to the
user: until he has imported torch and used a GPU, there is no accelerator here.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["Accelerator", "Gateway", "accelerator", "dormant"]

_KINDS = ("cuda", "xpu")


class Gateway(NamedTuple):
    """One function of torch that reads an allocator's nested statistics, or resets its peaks.

    Attributes:
        owner: The module that has it, and in which torch looks it up at every call.
        name: What it is called there.
        resets: Whether it resets the peaks.
    """

    owner: Any
    name: str
    resets: bool


class Accelerator:
    """One kind of GPU with torch's allocator for it.

    Args:
        kind: What `torch.device` calls it: ``cuda``, ``xpu``, ``mps``, or the name of a registered backend.
        module: Its module in torch, such as ``torch.cuda``.
    """

    def __init__(self, kind: str, module: Any) -> None:
        self.kind = kind
        self._module = module
        self._keys: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"<Accelerator {self.kind}>"

    def belongs_to(self, module: Any) -> bool:
        """Return whether ``module`` is the module of this accelerator."""
        return self._module is module

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
        ask = getattr(self._module, "device_count", None)
        count = 1 if ask is None else ask()
        if len(self._keys) != count:
            self._keys = {index: self._key(index) for index in range(count)}
        return self._keys

    def name(self, index: int) -> str | None:
        """Return what its maker calls one device; None where torch does not say."""
        describe = getattr(self._module, "get_device_properties", None)
        found = None if describe is None else getattr(describe(index), "name", None)
        return None if found is None else str(found)

    def statistics(self, index: int) -> Mapping[str, Any]:
        """Return the allocator's nested statistics: ``["allocated_bytes"]["all"]["peak"]`` and more.

        Several times cheaper than the flat ones of ``memory_stats``.

        Raises:
            RuntimeError: If the device cannot be asked, or its allocator keeps none (see `has_peaks`).
        """
        nested = getattr(self._module, "memory_stats_as_nested_dict", None)
        if nested is None:
            nested = getattr(_torch()._C, "_accelerator_getDeviceStats", None)
        if nested is None or not self.has_peaks:
            raise RuntimeError(f"the {self.source} keeps no statistics")
        return nested(index)  # type: ignore[no-any-return]

    def reset_peaks(self, index: int) -> None:
        """Let the peaks of one device start again from what it holds now.

        Raises:
            RuntimeError: If they cannot be reset.
        """
        reset = getattr(self._module, "reset_peak_memory_stats", None)
        if reset is None:
            reset = getattr(_torch()._C, "_accelerator_resetPeakStats", None)
        if reset is None:
            raise RuntimeError(f"the peaks of the {self.source} cannot be reset")
        reset(index)

    def gateways(self) -> list[Gateway]:
        """Return the functions through which all of torch reaches this allocator's peaks.

        ``max_memory_allocated``, ``memory_summary`` and the others of `torch.cuda` and `torch.accelerator`
        end in functions of ``torch._C``, which they look up at every call. A registered backend may have
        functions of its own, which its other ones look up in the module that defines them.
        """
        c = getattr(_torch(), "_C", None)
        found = [
            Gateway(c, f"_{self.kind}_memoryStats", resets=False),
            Gateway(c, f"_{self.kind}_resetPeakMemoryStats", resets=True),
            Gateway(c, "_accelerator_getDeviceStats", resets=False),
            Gateway(c, "_accelerator_resetPeakStats", resets=True),
        ]
        if self.kind not in _KINDS:
            for name, resets in (("memory_stats_as_nested_dict", False), ("reset_peak_memory_stats", True)):
                home = sys.modules.get(getattr(getattr(self._module, name, None), "__module__", ""))
                owners = [self._module] if home in (None, self._module) else [home, self._module]
                found += [Gateway(owner, name, resets) for owner in owners]
        return [gateway for gateway in found if callable(getattr(gateway.owner, gateway.name, None))]

    def index(self, device: Any) -> int:
        """Return the index that torch means by ``device``: a number, a `torch.device`, its name, or None."""
        if type(device) is int:
            return device
        found = None if device is None else _torch().device(device).index
        return self.current_index() if found is None else int(found)

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
        """Return what the driver says is free on one device, and all it has.

        None where it does not say, and for a device that the user has not used: asking would start it.
        """
        ask = getattr(self._module, "mem_get_info", None)
        if ask is None:
            ask = getattr(getattr(_torch(), "accelerator", None), "get_memory_info", None)
        if ask is None or not self.has_peaks or not self._in_use(index):
            return None
        free, total = ask(index)
        return int(free), int(total)

    def empty_cache(self) -> None:
        """Give the allocator's unused blocks back to the driver, on every device.

        Raises:
            RuntimeError: If torch offers no way to do so.
        """
        empty = getattr(self._module, "empty_cache", None)
        if empty is None:
            empty = getattr(getattr(_torch(), "accelerator", None), "empty_cache", None)
        if empty is None:
            raise RuntimeError(f"the cache of the {self.source} cannot be emptied")
        empty()

    def fraction(self, index: int) -> float | None:
        """Return the fraction of the device that this process may reserve; None where nobody keeps one."""
        ask = getattr(self._module, "get_per_process_memory_fraction", None)
        if ask is None:
            return None
        with self._current(index):
            return float(ask(index))

    def set_fraction(self, fraction: float, index: int) -> None:
        """Let this process reserve at most ``fraction`` of one device.

        Raises:
            RuntimeError: If the allocator cannot be limited.
        """
        change = getattr(self._module, "set_per_process_memory_fraction", None)
        if change is None:
            raise RuntimeError(f"the {self.source} cannot be limited")
        if not self.has_peaks:
            change(fraction)  # There is one device only.
            return
        with self._current(index):
            change(fraction, index)

    def current_index(self) -> int:
        """Return the index of the device on which new tensors are made."""
        ask = getattr(self._module, "current_device", None)
        return 0 if ask is None else int(ask())

    def _current(self, index: int) -> contextlib.AbstractContextManager[Any]:
        """Make one device current for a while, if it is in use.

        torch's CUDA allocator sets a fraction after making the device current, and leaves it so; a fraction
        that is read is one of the memory of whichever device is current.
        """
        switch = getattr(self._module, "device", None)
        return switch(index) if switch is not None and self._in_use(index) else contextlib.nullcontext()

    def _in_use(self, index: int) -> bool:
        has_context = getattr(getattr(_torch(), "_C", None), f"_{self.kind}_hasPrimaryContext", None)
        if has_context is not None:
            return bool(has_context(index))
        reserved = self.statistics(index)["reserved_bytes"]["all"]
        # What was reserved once and is given back counts: the device goes on being used.
        return bool(reserved["current"] or reserved.get("allocated"))

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
    torch = _torch()
    kind = None if torch is None else _started_kind(torch)
    return None if kind is None else _of(torch, kind)


def dormant() -> Accelerator | None:
    """Return the accelerator that the user may start next; None where his torch was built for none.

    Only its `Accelerator.gateways` can be asked for without starting it.
    """
    torch = _torch()
    c = getattr(torch, "_C", None)
    for kind in _KINDS:
        if hasattr(c, f"_{kind}_memoryStats") and kind in vars(torch):
            return _of(torch, kind)
    backend = _registered_backend(torch)
    return _of(torch, backend) if backend is not None and backend in vars(torch) else None


def _of(torch: Any, kind: str) -> Accelerator:
    global _found
    found, module = _found, vars(torch)[kind]
    if found is None or not found.belongs_to(module):
        found = _found = Accelerator(kind, module)
    return found


def _started_kind(torch: Any) -> str | None:
    # Not getattr: for a missing name torch runs code of its own, ten times slower.
    there = vars(torch)
    for kind in (*_KINDS, _registered_backend(torch)):
        # Missing while another thread is still importing torch.
        started = getattr(there.get(kind), "is_initialized", None)
        if started is not None and started():
            return kind
    mps = getattr(there.get("backends"), "mps", None)
    return "mps" if mps is not None and "mps" in there and mps.is_available() else None


def _registered_backend(torch: Any) -> str | None:
    """Return the name under which a maker of hardware has registered his own backend."""
    ask = getattr(getattr(torch, "_C", None), "_get_privateuse1_backend_name", None)
    return None if ask is None else ask()


def _torch() -> Any:
    return sys.modules.get("torch")
