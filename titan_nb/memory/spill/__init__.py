"""Idle tensors out of the way, and back by themselves when they are used."""

from __future__ import annotations

from titan_nb.errors import SpillError
from titan_nb.memory.spill.spill import Moved, Refused, Spilled, restore, spill, spill_named, spilled

__all__ = ["Moved", "Refused", "SpillError", "Spilled", "restore", "spill", "spill_named", "spilled"]
