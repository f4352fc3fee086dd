from __future__ import annotations

import itertools
import time

import pytest

from titan_nb.energy import Meter
from titan_nb.energy.sensors.nvml import TICK_SECONDS, nvml_sensors

pytestmark = pytest.mark.gpu


def test_the_counter_moves_and_ticks_at_least_as_often_as_assumed() -> None:
    sensor = nvml_sensors()[0]
    values, ticks = sensor.read().value, []
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        reading = sensor.read()
        if reading.value != values:
            values = reading.value
            ticks.append(reading.at)
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    assert len(gaps) > 10
    assert sorted(gaps)[int(len(gaps) * 0.95)] <= TICK_SECONDS
    sensor.close()


def test_a_busy_second_costs_more_than_an_idle_one() -> None:
    import torch

    matrix = torch.randn(8192, 8192, device="cuda")
    (matrix @ matrix).sum().item()
    meter = Meter()
    meter.status()
    time.sleep(1)
    window = meter.begin()
    time.sleep(1.5)
    idle = window.settle()
    window = meter.begin()
    deadline = time.monotonic() + 1.5
    while time.monotonic() < deadline:
        (matrix @ matrix).sum().item()
    busy = window.settle()
    meter.close()
    (key,) = [key for key in busy.energy if key.startswith("gpu:")][:1]
    assert busy.energy[key].joules > 1.3 * idle.energy[key].joules
    assert busy.energy[key].low <= busy.energy[key].joules <= busy.energy[key].high
    assert busy.energy[key].joules < 2000 * busy.seconds
