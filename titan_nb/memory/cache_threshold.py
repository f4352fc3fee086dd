"""Empty a GPU's cache between cells, once it has grown past what the user allows."""

from __future__ import annotations

from titan_nb.errors import SettingsError
from titan_nb.memory.accelerator import Accelerator

__all__ = ["maybe_empty"]


def maybe_empty(accelerator: Accelerator, threshold: float) -> int | None:
    """Give the allocator's unused blocks back if it holds more than ``threshold`` of any device.

    To be called between cells only: within one, an emptied cache changes what the cell takes and measures.

    Args:
        accelerator: The GPUs.
        threshold: A fraction of each device's memory, such as 0.8, 0.9 or 0.95.

    Returns:
        How many bytes were given back on all devices; None if there was no need.

    Raises:
        SettingsError: If ``threshold`` is no fraction above 0 and up to 1.
    """
    if type(threshold) not in (int, float) or not 0 < threshold <= 1:
        raise SettingsError(
            f"the threshold of the cache is {threshold!r}: give a fraction above 0 and up to 1, such as 0.9"
        )
    indices = tuple(accelerator.keys())
    if not any(_passes(accelerator, index, threshold) for index in indices):
        return None
    before = sum(map(accelerator.reserved_bytes, indices))
    accelerator.empty_cache()
    return max(0, before - sum(map(accelerator.reserved_bytes, indices)))


def _passes(accelerator: Accelerator, index: int, threshold: float) -> bool:
    """Say whether one device holds too much, and some of it unused."""
    known = accelerator.free_and_total_bytes(index)
    if known is None:
        return False
    reserved = accelerator.reserved_bytes(index)
    return reserved > threshold * known[1] and reserved > accelerator.allocated_bytes(index)
