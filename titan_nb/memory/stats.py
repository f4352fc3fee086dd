"""What memory holds right now, in numbers for programs."""

from __future__ import annotations

import os
from typing import Any

from titan_nb.memory.accelerator import Accelerator, accelerator
from titan_nb.memory.marks import Marks, marks_of

__all__ = ["memory_stats"]


def memory_stats() -> dict[str, dict[str, Any]]:
    """Return what this process and each of its GPUs hold now, in bytes, by device key.

    No GPU is started for it: one that the user has not started is not in there. What nobody knows is None.

    Returns:
        For ``ram:...``: ``device`` (``cpu``), ``name``, ``resident_bytes`` and ``peak_bytes`` of this
        process, ``available_bytes`` and ``total_bytes`` of the machine. For ``gpu:...``: ``device`` (such
        as ``cuda:0``), ``name``, ``allocated_bytes`` (tensors), ``reserved_bytes`` (tensors and cache),
        ``cached_bytes`` (the difference), ``peak_bytes`` (the most that tensors held since the user's last
        ``reset_peak_memory_stats``), ``free_bytes`` and ``total_bytes`` as the driver sees them, and
        ``others_bytes`` (all that is neither free nor reserved).
    """
    marks = marks_of(os.getpid())
    rows = {marks.host.key: _host(marks)}
    found = accelerator()
    if found is not None:
        rows |= {key: _gpu(found, index) for index, key in found.keys().items()}
    return rows


def _host(marks: Marks) -> dict[str, Any]:
    import psutil

    def look() -> dict[str, int | None]:
        resident = marks.host.resident()
        found = {
            "resident_bytes": None if resident is None else resident[0],
            "peak_bytes": marks.host.process_peak_bytes,
        }
        if not marks.users:
            marks.host.close()
        return found

    unknown: dict[str, int | None] = {"resident_bytes": None, "peak_bytes": None}
    process = marks.locked(look, unknown)
    machine = psutil.virtual_memory()
    return {
        "device": "cpu",
        "name": "this process",
        **process,
        "available_bytes": int(machine.available),
        "total_bytes": int(machine.total),
    }


def _gpu(found: Accelerator, index: int) -> dict[str, Any]:
    row: dict[str, Any] = {"device": f"{found.kind}:{index}", "name": None}
    names = ("allocated", "reserved", "cached", "peak", "free", "total", "others")
    row |= {f"{name}_bytes": None for name in names}
    try:
        if found.has_peaks:
            # All from one look, so that they fit together.
            statistics = found.statistics(index)
            live = statistics["allocated_bytes"]["all"]
            allocated, row["peak_bytes"] = live["current"], live["peak"]
            reserved = statistics["reserved_bytes"]["all"]["current"]
        else:
            allocated, reserved = found.allocated_bytes(index), found.reserved_bytes(index)
        row |= {
            "allocated_bytes": allocated,
            "reserved_bytes": reserved,
            "cached_bytes": max(0, reserved - allocated),
        }
        row["name"] = found.name(index)
        sizes = found.free_and_total_bytes(index)
        if sizes is not None:
            row["free_bytes"], row["total_bytes"] = sizes
            row["others_bytes"] = max(0, sizes[1] - sizes[0] - reserved)
    except Exception:  # noqa: S110 - after a fault the GPU answers nothing any more: the rest stays unknown
        pass
    return row
