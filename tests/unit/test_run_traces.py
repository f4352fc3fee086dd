from __future__ import annotations

import time

import pytest

from titan_nb.energy import Discovery, FakeSensor, Meter
from titan_nb.tracker import Tracker


def test_power_over_a_block_by_device() -> None:
    sensor = FakeSensor(watts=70.0, tick_seconds=0.02, limit_watts=700.0, blocking=True)
    model = FakeSensor("ram:model", counter=False)
    tracker = Tracker(meter=Meter(lambda: Discovery([sensor, model])))
    try:
        for _ in range(2):  # the first window is the one that finds the devices
            run = tracker.begin()
            time.sleep(0.2)
            run.finish()
            run.settle()
            time.sleep(0.1)
        traces = run.traces()
    finally:
        tracker.close()
    assert set(traces) == {sensor.key}, "a model has no course"
    trace = traces[sensor.key]
    assert len(trace.seconds) == len(trace.watts) + 1
    assert trace.watts == pytest.approx(70.0, rel=0.3)
    assert trace.seconds[-1] > trace.seconds[0]
