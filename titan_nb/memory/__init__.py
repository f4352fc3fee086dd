"""What a window of time did to memory, on the host and on each GPU."""

from __future__ import annotations

from titan_nb.memory.peaks import Peaks, Scope

__all__ = ["Peaks", "Scope"]
