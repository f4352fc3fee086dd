"""From energy to greenhouse gas: a dated, sourced intensity, or *unknown*; never a default country."""

from __future__ import annotations

from titan_nb.carbon.intensity import Intensity, carbon_of, resolve, unknown_note, world_range, zones

__all__ = ["Intensity", "carbon_of", "resolve", "unknown_note", "world_range", "zones"]
