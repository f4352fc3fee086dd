"""Energy: one sensor per device, one thread for what may block, one meter over all of them."""

from __future__ import annotations

from titan_nb.energy.discover import Discovery, Finding, discover
from titan_nb.energy.meter import Meter
from titan_nb.energy.sampler import Sampler
from titan_nb.energy.sensors import Reading, Sensor
from titan_nb.energy.sensors.fake import FakeSensor
from titan_nb.energy.window import Window

__all__ = [
    "Discovery",
    "FakeSensor",
    "Finding",
    "Meter",
    "Reading",
    "Sampler",
    "Sensor",
    "Window",
    "discover",
]
