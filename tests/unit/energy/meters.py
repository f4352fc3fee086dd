"""What the tests of the meter share."""

from __future__ import annotations

import threading
from typing import Any

from titan_nb.energy import FakeSensor, Meter

WAIT = 5.0
KEY = "gpu:simulated"


def ready(meter: Meter) -> Meter:
    meter.status()
    return meter


def model(key: str = KEY, watts: float = 100.0, **options: Any) -> FakeSensor:
    """Return a sensor that is read only at the edges of a window."""
    return FakeSensor(key, watts, counter=False, **options)


class Gate:
    """Lets the reads of a sensor wait until it is opened."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self, seconds: float) -> None:
        self.event.wait(min(seconds, WAIT))
