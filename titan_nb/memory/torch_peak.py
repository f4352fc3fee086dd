"""Memory that torch's allocator handed out on each GPU, and its peak."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from titan_nb.memory.accelerator import Accelerator, accelerator, dormant
from titan_nb.memory.fold import Extent, Level
from titan_nb.memory.sampled import Reading
from titan_nb.memory.user_peaks import UserPeaks, own_look

__all__ = ["TorchPeak"]


class TorchPeak:
    """The high-water mark of each GPU's allocator.

    It counts the bytes of live tensors, not the allocator's cache, the context of the driver or other
    processes. What the user's own code reads of the peaks does not change; see `UserPeaks`. Only in a window
    in which torch itself is imported, a reset of the user's loses what came before it.

    Args:
        find: Returns the accelerator in use; None as long as there is none.
        user: Keeps the user's own view of the peaks.
    """

    def __init__(
        self, find: Callable[[], Accelerator | None] = accelerator, user: UserPeaks | None = None
    ) -> None:
        self.user = UserPeaks() if user is None else user
        self.source = "torch allocator"
        self._find = find
        self._found: Accelerator | None = None

    def take(self) -> dict[str, Level]:
        """Return the level of each GPU and reset its peak; empty when none is in use, or has no peaks."""
        found = self._found = self._find()
        if found is None:
            # The user may start one and reset its peaks before the next look.
            expected = dormant()
            if expected is not None:
                self.user.watch(expected)
            return {}
        self.source = found.source
        if not found.has_peaks:
            return {}
        self.user.watch(found)
        levels = {}
        with own_look():
            for index, key in found.keys().items():
                statistics = found.statistics(index)
                allocated = statistics["allocated_bytes"]["all"]
                level = Level(allocated["current"], allocated["peak"], _cached_bytes(statistics))
                levels[key] = level
                # Otherwise a reset would change nothing for us, and other peaks for the user.
                if level.peak_bytes != level.current_bytes:
                    self.user.keep(index, statistics)
                    found.reset_peaks(index)
        return levels

    def readings(self) -> dict[str, Reading]:
        """Return what to sample for each GPU whose allocator keeps no peak, as Apple's does not.

        They are of the accelerator that the last `take` found.
        """
        found = self._found
        if found is None or found.has_peaks:
            return {}
        return {key: functools.partial(_allocated, found, index) for index, key in found.keys().items()}

    def others_bytes(self, key: str, extent: Extent) -> int | None:
        """Return what others held on one GPU at the end of a window; None where the driver does not say.

        Others are other processes, the driver's own part of this one, and libraries beside torch.
        """
        found = self._found
        if found is None or extent.cached_bytes is None:
            return None
        try:
            index = next(index for index, known in found.keys().items() if known == key)
            sizes = found.free_and_total_bytes(index)
        except Exception:  # After a fault of the GPU the driver answers nothing any more.
            return None
        if sizes is None:
            return None
        free, total = sizes
        # The driver may have counted a moment earlier than the allocator.
        return max(0, total - free - extent.after_bytes - extent.cached_bytes)


def _cached_bytes(statistics: Mapping[str, Any]) -> int | None:
    reserved = statistics.get("reserved_bytes", {}).get("all", {}).get("current")
    cached = None if reserved is None else reserved - statistics["allocated_bytes"]["all"]["current"]
    # Less than nothing where the allocator does not count what it reserves.
    return None if cached is None or cached < 0 else cached


def _allocated(found: Accelerator, index: int) -> tuple[int, str] | None:
    try:
        return found.allocated_bytes(index), found.source
    except Exception:  # Whatever a driver raises, the cell must go on.
        return None
