"""The part of each GPU that those who can do without leave to the user's next cell."""

from __future__ import annotations

import contextlib
import sys

from titan_nb.memory.accelerator import Accelerator, accelerator
from titan_nb.memory.reclaim import anyone_yields, ask_yielders

__all__ = ["ask_for_everything", "keep_headroom", "spare_bytes"]

_HEADROOM = 0.2
"""The part of a GPU that stays available; below it tensors are spilled as well, for who asked for that."""


def spare_bytes(gpu: Accelerator, index: int) -> int | None:
    """Return how much can be taken of one GPU beside the headroom; negative where the headroom is in use.

    What the allocator's cache holds unused can be taken, and what a limit forbids cannot.

    Returns:
        None where the driver does not say, and for a device that is not in use.
    """
    known = gpu.free_and_total_bytes(index)
    if known is None:
        return None
    free, total = known
    reserved = gpu.reserved_bytes(index)
    fraction = gpu.fraction(index)
    if fraction is not None:
        free = max(0, min(free, int(fraction * total) - reserved))
    return free + reserved - gpu.allocated_bytes(index) - int(_HEADROOM * total)


def keep_headroom() -> int:
    """Ask for what is missing of the headroom of each GPU; return how many bytes were given.

    To be called between cells: what is given back before a cell needs it keeps the cell from failing.
    """
    gpu = accelerator() if anyone_yields() else None
    given = 0
    if gpu is not None:
        # A GPU that is broken cannot be asked; the next cell says so better.
        with contextlib.suppress(RuntimeError):
            for index, key in gpu.keys().items():
                spare = spare_bytes(gpu, index)
                if spare is not None and spare < 0:
                    given += ask_yielders(-spare, key)
    return given


def ask_for_everything() -> int:
    """Ask for all that can be given, on every GPU, because memory ran out; return how many bytes were."""
    gpu = accelerator() if anyone_yields() else None
    return 0 if gpu is None else sum(ask_yielders(sys.maxsize, key) for key in gpu.keys().values())
