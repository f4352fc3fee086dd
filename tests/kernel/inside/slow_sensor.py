"""Gives titan a sensor that answers too late, so that it waits its longest at both ends of every cell."""

from __future__ import annotations

import itertools

from titan_nb import tracker
from titan_nb.energy import Discovery, FakeSensor, Meter

__all__ = ["install"]

READ_SECONDS = 0.045


def install() -> None:
    """Replace the sensors of this process by the slow one."""
    sensor = FakeSensor(blocking=True, faults=itertools.repeat("hang", 100_000), hang_seconds=READ_SECONDS)
    tracker.default().meter = Meter(lambda: Discovery((sensor,)))
