"""Energy: one sensor per device, one thread for what may block, one meter over all of them."""

from __future__ import annotations

from titan_nb.energy.books import Stretch
from titan_nb.energy.meter import Meter
from titan_nb.energy.probes import Discovery, Finding, discover
from titan_nb.energy.sampler import Sampler
from titan_nb.energy.sensors import Counter, Reading, Sensor
from titan_nb.energy.sensors.fake import FakeSensor
from titan_nb.energy.trace import Trace
from titan_nb.energy.window import Window

__all__ = [
    "Counter",
    "Discovery",
    "FakeSensor",
    "Finding",
    "Meter",
    "Reading",
    "Sampler",
    "Sensor",
    "Stretch",
    "Trace",
    "Window",
    "discover",
]
