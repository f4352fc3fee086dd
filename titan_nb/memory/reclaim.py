"""Give memory back: what kept exceptions hold, garbage, allocators' caches, and what others can spare."""

from __future__ import annotations

import contextlib
import functools
import gc
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from titan_nb.memory.accelerator import Accelerator, accelerator
from titan_nb.memory.closures import empty_closures
from titan_nb.memory.failures import finished_frames, forget_variables
from titan_nb.memory.host_peak import HostPeak

__all__ = ["Reclaimed", "anyone_yields", "ask_yielders", "reclaim", "register_yielder"]

Yielder = Callable[[int, str], int]
"""Gives memory back when asked for so many bytes on a device, and returns how many it gave."""


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """What was given back, by device key; a device that could not be asked is left out.

    Attributes:
        freed_bytes: By how much less live tensors hold on each GPU, and by how much the resident memory of
            this process fell. Negative where something else took memory meanwhile.
        returned_bytes: By how much less the allocator holds on each GPU, its cache included.
        held_bytes: What live tensors still hold on each GPU.
    """

    freed_bytes: Mapping[str, int]
    returned_bytes: Mapping[str, int]
    held_bytes: Mapping[str, int]


class _Level(NamedTuple):
    """What one device holds.

    Attributes:
        used_bytes: In live tensors, or for the host resident.
        reserved_bytes: With the allocator's cache; None for the host.
    """

    used_bytes: int
    reserved_bytes: int | None


def reclaim(
    failures: Iterable[object] = (),
    *,
    drop: Callable[[], object] | None = None,
    caches: bool = True,
    gpu: Accelerator | None = None,
) -> Reclaimed:
    """Let go of what failed calls hold, collect garbage, empty caches, and say what that gave.

    The exceptions keep their text, files, lines and source; their frames lose the local variables.

    Args:
        failures: Exceptions and tracebacks, with all that they were raised from or group.
        drop: Lets go of something else, between the two looks at the memory.
        caches: Whether the allocator's unused blocks go back to the driver as well.
        gpu: Whose memory is looked at; by default the accelerator in use, if there is one.
    """
    gpu = accelerator() if gpu is None else gpu
    before = _levels(gpu)
    if drop is not None:
        drop()
    frames = finished_frames(failures)
    forget_variables(frames)
    gc.collect()
    # After the collection: a function that only garbage refers to is one that nobody can call any more.
    if empty_closures(frames):
        gc.collect()
    if caches:
        _empty_caches(gpu)
    trim = _malloc_trim()
    if trim is not None:
        trim(0)
    after = _levels(gpu)
    both = before.keys() & after.keys()
    return Reclaimed(
        freed_bytes={key: before[key].used_bytes - after[key].used_bytes for key in before if key in both},
        returned_bytes={
            key: (before[key].reserved_bytes or 0) - reserved
            for key, (_, reserved) in after.items()
            if key in both and reserved is not None
        },
        held_bytes={key: used for key, (used, reserved) in after.items() if reserved is not None},
    )


_yielders: list[Yielder] = []
_yielders_lock = threading.Lock()


def register_yielder(yielder: Yielder) -> Callable[[], None]:
    """Let ``yielder(bytes_needed, device_key)`` be asked when memory is short; return what takes that back.

    It is kept alive until then, returns how many bytes it gave back, and may be called in any thread.
    """
    with _yielders_lock:
        _yielders.append(yielder)

    def unregister() -> None:
        with _yielders_lock, contextlib.suppress(ValueError):
            _yielders.remove(yielder)

    return unregister


def anyone_yields() -> bool:
    """Say whether there is anybody to ask."""
    return bool(_yielders)


def ask_yielders(bytes_needed: int, device_key: str) -> int:
    """Ask one after the other to give memory back until there is enough; return how many bytes they gave.

    One that fails has given nothing, and the next is asked.
    """
    with _yielders_lock:
        asked = list(_yielders)
    given = 0
    for yielder in asked:
        if given >= bytes_needed:
            break
        with contextlib.suppress(Exception):
            given += max(0, yielder(bytes_needed - given, device_key))
    return given


def _levels(gpu: Accelerator | None) -> dict[str, _Level]:
    levels: dict[str, _Level] = {}
    host = HostPeak()
    resident = host.resident()
    host.close()
    if resident is not None:
        levels[host.key] = _Level(resident[0], None)
    if gpu is not None:
        # Whatever a driver raises: the device is left out.
        with contextlib.suppress(Exception):
            for index, key in gpu.keys().items():
                levels[key] = _Level(gpu.allocated_bytes(index), gpu.reserved_bytes(index))
    return levels


@functools.cache
def _malloc_trim() -> Any:
    """Return the function that gives free memory inside the heap back to the system; only glibc has it."""
    import ctypes

    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


def _empty_caches(gpu: Accelerator | None) -> None:
    if gpu is None:
        return
    with contextlib.suppress(Exception):
        gpu.empty_cache()
    # Pinned memory of the host, since torch 2.10.
    empty = getattr(getattr(sys.modules.get("torch"), "accelerator", None), "empty_host_cache", None)
    if empty is not None:
        with contextlib.suppress(Exception):
            empty()
