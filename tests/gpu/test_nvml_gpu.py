from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Iterator

import pytest

from titan_nb.energy import Meter
from titan_nb.energy.sensors.nvml import NvmlCounter, NvmlPower, nvml_sensors
from titan_nb.energy.sensors.nvml_processes import LOOK_SECONDS, Company
from titan_nb.records import Energy

pytestmark = pytest.mark.gpu


@pytest.fixture
def sensor() -> Iterator[NvmlCounter]:
    sensors = nvml_sensors()
    first = sensors[0]
    assert isinstance(first, NvmlCounter)
    yield first
    for one in sensors:
        one.close()


def test_the_counter_moves_in_ticks_of_at_most_a_fifth_of_a_second(sensor: NvmlCounter) -> None:
    value, ticks = sensor.read().value, []
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        reading = sensor.read()
        if reading.value != value:
            value = reading.value
            ticks.append(reading.at)
    gaps = [later - earlier for earlier, later in itertools.pairwise(ticks)]
    assert len(gaps) > 10
    assert sorted(gaps)[int(len(gaps) * 0.95)] <= 0.2


def test_a_read_is_quick_and_the_device_tells_its_limit_and_power(sensor: NvmlCounter) -> None:
    readings = [sensor.read() for _ in range(100)]
    assert statistics.median(reading.slack_seconds for reading in readings) < 0.005
    watts = sensor.watts_now()
    assert watts is not None
    assert 0 < watts <= 1.2 * sensor.limit_watts < 10_000


def test_alone_on_the_device_all_is_ours(sensor: NvmlCounter) -> None:
    import torch

    torch.ones(8, device="cuda").sum().item()
    begin = sensor.read()
    time.sleep(2 * LOOK_SECONDS)
    end = sensor.read()
    company = Company(*end.extra[1:])
    if company.others:
        pytest.fail(f"this test needs a GPU of its own: {company.others:.0f} other processes are on it")
    whole = Energy(10.0, 9.0, 11.0, "measured", "counter")
    assert sensor.ours(whole, begin, end) == whole


def test_the_integrated_power_agrees_with_the_counter(sensor: NvmlCounter) -> None:
    import torch

    power = NvmlPower(sensor._device)
    matrix = torch.randn(8192, 8192, device="cuda")
    begin = sensor.read(), power.read()
    deadline = time.monotonic() + 6
    while time.monotonic() < deadline:
        (matrix @ matrix).sum().item()
        power.read()
    end = sensor.read(), power.read()
    counted, summed = (last.value - first.value for first, last in zip(begin, end, strict=True))
    whole = Energy(summed, summed, summed, "measured", power.source)
    energy = power.ours(whole, begin[1], end[1])
    assert summed == pytest.approx(counted, rel=0.2)
    assert energy.low <= summed <= energy.high


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
