"""From energy to greenhouse gas and money: a sourced intensity, or *unknown*; never a default country."""

from __future__ import annotations

from titan_nb.carbon.cloud import detect_region
from titan_nb.carbon.equivalents import car_note
from titan_nb.carbon.intensity import (
    Intensity,
    carbon_of,
    refresh,
    resolve,
    unknown_note,
    warning,
    world_range,
    zones,
)
from titan_nb.carbon.price import cost_of

__all__ = [
    "Intensity",
    "car_note",
    "carbon_of",
    "cost_of",
    "detect_region",
    "refresh",
    "resolve",
    "unknown_note",
    "warning",
    "world_range",
    "zones",
]
