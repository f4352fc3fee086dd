from __future__ import annotations

from typing import Any

import pynvml
import pytest

from tests.unit.energy.sensors.nvml_stand_in import READ, Clock, Nvml, error
from titan_nb.energy.sensors.nvml_counter import NvmlCounter
from titan_nb.energy.sensors.nvml_device import NvmlDevice
from titan_nb.energy.sensors.nvml_processes import Company
from titan_nb.energy.sensors.nvml_session import NvmlSession
from titan_nb.errors import SensorError
from titan_nb.records import Energy

WALL = 1_700_000_000.0


def counter(session: NvmlSession, clock: Clock, **options: Any) -> NvmlCounter:
    options = {"clock": clock, "wall_clock": Clock(WALL), **options}
    return NvmlCounter(NvmlDevice(session, 0, clock), **options)


def test_a_read_is_one_call_and_makes_no_new_extra_values(
    nvml: Nvml, session: NvmlSession, clock: Clock
) -> None:
    sensor = counter(session, clock)
    first = sensor.read()
    nvml.calls.clear()
    nvml.millijoules = 1_234_567
    clock.now += 0.01
    second = sensor.read()
    assert nvml.calls == [READ]
    assert (second.at, second.value) == (1000.01, 1234.567)
    assert second.extra is first.extra


def test_the_slack_is_half_of_the_call(nvml: Nvml, session: NvmlSession, clock: Clock) -> None:
    sensor = counter(session, clock)

    def slow(handle: int) -> int:
        clock.now += 0.004
        return 5

    nvml.nvmlDeviceGetTotalEnergyConsumption = slow  # type: ignore[method-assign]
    reading = sensor.read()
    assert reading.at == pytest.approx(1000.002)
    assert reading.slack_seconds == pytest.approx(0.002)


def test_the_part_of_the_time_that_is_seen_is_assumed_and_said(
    nvml: Nvml, session: NvmlSession, clock: Clock
) -> None:
    sensor = counter(session, clock)
    assert sensor.duty == 0.25
    assert sensor.source == (
        "NVML energy counter of NVIDIA H100 (assumed to sample 25% of the time, by published tests)"
    )
    nvml.architecture = 99
    assert "model not tested" in counter(session, clock).source
    assert counter(session, clock, note="a note").source.endswith("; a note)")


def test_a_calibration_goes_before_what_is_assumed(session: NvmlSession, clock: Clock) -> None:
    sensor = counter(session, clock, calibration={"duty": 1, "tick_seconds": 0.02})
    assert (sensor.duty, sensor.tick_seconds, sensor.tells_ticks) == (1.0, 0.02, False)
    assert "calibrated: samples 100% of the time" in sensor.source


STAMPS = {"timestamp_moves_with_ticks": True}


def test_a_time_stamp_that_moves_with_the_ticks_is_passed_on(
    nvml: Nvml, session: NvmlSession, clock: Clock
) -> None:
    sensor = counter(session, clock, calibration=STAMPS)
    assert sensor.tells_ticks
    nvml.stamp_us = int((WALL - 0.08) * 1e6)
    reading = sensor.read()
    assert reading.value == 1000
    assert reading.extra[0] == pytest.approx(1000 - 0.08, abs=1e-5)
    assert Company(*reading.extra[1:]).looks == 1
    assert READ not in nvml.calls


@pytest.mark.parametrize("age", [-1.0, 3600.0])
def test_a_time_stamp_that_makes_no_sense_is_not_passed_on(
    nvml: Nvml, session: NvmlSession, clock: Clock, age: float
) -> None:
    nvml.stamp_us = int((WALL - age) * 1e6)
    assert counter(session, clock, calibration=STAMPS).read().extra[0] == -1


def test_without_the_field_the_plain_counter_is_read(nvml: Nvml, session: NvmlSession, clock: Clock) -> None:
    sensor = counter(session, clock, calibration=STAMPS)
    nvml.nvmlDeviceGetFieldValues = lambda handle, fields: []  # type: ignore[method-assign]
    reading = sensor.read()
    assert (reading.value, reading.extra[0]) == (1000, -1)


@pytest.mark.parametrize("value", [2**64 - 1, -1, None, "5"])
def test_a_value_that_is_none_is_an_error(
    nvml: Nvml, session: NvmlSession, clock: Clock, value: object
) -> None:
    sensor = counter(session, clock)
    nvml.millijoules = value
    with pytest.raises(SensorError, match="NVIDIA H100 does not tell its energy now"):
        sensor.read()


def test_no_counter_is_said(nvml: Nvml, session: NvmlSession, clock: Clock) -> None:
    nvml.fail[READ] = error(pynvml.NVML_ERROR_NOT_SUPPORTED)
    with pytest.raises(SensorError, match="NVIDIA H100 has no energy counter"):
        counter(session, clock).read()


def test_a_power_limit_that_changes_is_noticed(nvml: Nvml, session: NvmlSession, clock: Clock) -> None:
    sensor = counter(session, clock)
    assert sensor.limit_watts == 700
    nvml.limit = 350_000
    clock.now += 61
    sensor.read()
    assert sensor.limit_watts == 350


def test_what_is_ours_follows_from_who_was_there(nvml: Nvml, session: NvmlSession, clock: Clock) -> None:
    whole = Energy(10.0, 9.0, 11.0, "measured", "counter")
    sensor = counter(session, clock)
    begin = sensor.read()
    assert sensor.ours(whole, begin, sensor.read()) == whole
    nvml.pids = [*nvml.pids, 2**22 + 7]
    clock.now += 1
    energy = sensor.ours(whole, begin, sensor.read())
    assert (energy.joules, energy.low, energy.grade) == (10, 0, "shared")


def test_of_a_mig_instance_no_process_is_asked_for(nvml: Nvml, session: NvmlSession, clock: Clock) -> None:
    sensor = counter(session, clock, mig=True)
    reading = sensor.read()
    assert "nvmlDeviceGetComputeRunningProcesses" not in nvml.calls
    assert "MIG" in sensor.ours(Energy(10.0, 9.0, 11.0, "measured", "counter"), reading, reading).source


def test_the_power_is_the_device_s(session: NvmlSession, clock: Clock) -> None:
    assert counter(session, clock).watts_now() == 300
