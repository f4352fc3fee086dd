"""The sensors by the real pynvml, on the fake driver library, whose true energy is known."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.fakes.nvml import NOT_AVAILABLE, FakeGpu, FakeNvml
from titan_nb.energy.sensors.nvml import NvmlCounter, NvmlPower, nvml_sensors
from titan_nb.errors import SensorError
from titan_nb.records import Energy

TURING, HOPPER = 6, 9
COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
OTHER = os.getppid()

Start = Callable[..., tuple[FakeNvml, list[Any]]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    undo: list[Callable[[], Any]] = []

    def begin(*gpus: FakeGpu, **environ: str) -> tuple[FakeNvml, list[Any]]:
        fake = FakeNvml(tmp_path, gpus or (FakeGpu(),))
        context = fake.in_process()
        context.__enter__()
        undo.append(lambda: context.__exit__(None, None, None))
        sensors = nvml_sensors(environ=environ)
        undo.extend(sensor.close for sensor in sensors)
        return fake, sensors

    yield begin
    for step in reversed(undo):
        step()


def test_the_counter_is_the_library_s(start: Start) -> None:
    fake, (sensor,) = start(FakeGpu(tick_seconds=0.02))
    assert (type(sensor), sensor.key) == (NvmlCounter, "gpu:GPU-00000000-0000-4000-8000-000000000000")
    assert (sensor.limit_watts, sensor.duty) == (700, 0.25)
    begin = sensor.read()
    with fake.load(0, 600):
        time.sleep(0.1)
    end = sensor.read()
    for reading in (begin, end):
        # One tick may lie within the call.
        shown = [fake.counter_joules(0, reading.at + side * reading.slack_seconds) for side in (-1, 1)]
        assert shown[0] - 1e-3 <= reading.value <= shown[1] + 1e-3
    assert 70 <= sensor.watts_now() <= 600


def test_a_read_is_one_call(start: Start) -> None:
    fake, (sensor,) = start()
    sensor.read()
    calls = fake.calls
    for _ in range(20):
        sensor.read()
    assert fake.calls == calls + 20


def test_the_time_stamp_of_the_last_tick_is_on_our_clock(start: Start) -> None:
    fake, sensors = start(FakeGpu(tick_seconds=0.05, stamps_ticks=True))
    uuid = sensors[0].key.removeprefix("gpu:")
    calibration = {uuid: {"duty": 1.0, "timestamp_moves_with_ticks": True}}
    (sensor,) = nvml_sensors(environ={}, calibrations=calibration)
    for _ in range(10):
        reading = sensor.read()
        ticks = fake.ticks(0, reading.at - 0.2, reading.at + reading.slack_seconds)
        assert min(abs(tick - reading.extra[0]) for tick in ticks) < 0.002
        time.sleep(0.013)
    sensor.close()


def test_a_lost_device_comes_back_and_the_other_goes_on(start: Start) -> None:
    fake, (first, second) = start(FakeGpu(), FakeGpu())
    before = second.read()
    fake.vanish(0)
    for sensor in (first, first):
        with pytest.raises(SensorError, match="restart the machine if it does not come back"):
            sensor.read()
    assert second.read().value >= before.value
    fake.come_back(0)  # for those who start NVML again
    first._device._retry_at = 0.0  # as if the time had passed
    fake.reset_counter(0)
    assert first.read().value < 100
    assert second.read().value >= before.value


def test_a_list_of_devices_that_changes_breaks_nothing(start: Start) -> None:
    fake, (first, second) = start(FakeGpu(), FakeGpu())
    fake.set_device_count(1)
    first.read()
    with pytest.raises(SensorError, match="lost"):
        second.read()
    assert len(nvml_sensors(environ={"CUDA_VISIBLE_DEVICES": ""})) == 0


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (pynvml.NVML_ERROR_NOT_SUPPORTED, "has no energy counter"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "ask for read access"),
        (pynvml.NVML_ERROR_UNKNOWN, "cannot be read"),
        (NOT_AVAILABLE, "does not tell its energy now"),
    ],
)
def test_a_counter_that_fails_says_why(start: Start, code: int, message: str) -> None:
    fake, (sensor,) = start()
    with fake.fault(COUNTER, code), pytest.raises(SensorError, match=message):
        sensor.read()


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "install the NVIDIA driver"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "modprobe nvidia"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "/dev/nvidiactl"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "restart the machine"),
    ],
)
def test_an_nvml_that_does_not_start_says_what_to_do(start: Start, code: int, remedy: str) -> None:
    fake, (sensor,) = start()
    sensor.close()
    with fake.fault("nvmlInit", code), pytest.raises(SensorError, match=remedy):
        nvml_sensors()


def test_eight_devices_are_selected_as_cuda_does(start: Start) -> None:
    _, sensors = start(*[FakeGpu() for _ in range(8)], CUDA_VISIBLE_DEVICES="7,GPU-00000003,-1,2")
    assert [sensor.key[-37:-28] for sensor in sensors] == ["-00000007", "-00000003"]


def test_a_mig_instance_is_charged_the_whole_gpu(start: Start) -> None:
    _, (sensor,) = start(
        FakeGpu(mig_instances=2), CUDA_VISIBLE_DEVICES="MIG-00000000-0000-4000-8000-000000000001"
    )
    energy = sensor.ours(Energy(9.0, 8.0, 10.0, "measured", "counter"), sensor.read(), sensor.read())
    assert (energy.joules, energy.low, energy.grade) == (9, 0, "shared")
    assert "MIG" in energy.source


def test_a_foreign_process_gets_its_part_by_sm_time(start: Start) -> None:
    fake, (sensor,) = start(FakeGpu(utilization_seconds=0.2, utilization_ring=20))
    fake.start_process(0, os.getpid(), sm_percent=60)
    fake.start_process(0, OTHER, sm_percent=20)
    begin = sensor.read()
    deadline = time.monotonic() + 2.6
    while time.monotonic() < deadline:
        time.sleep(0.1)
        end = sensor.read()
    whole = Energy(1400.0, 1390.0, 1410.0, "measured", "counter", 200.0)
    energy = sensor.ours(whole, begin, end)
    assert energy.grade == "shared"
    assert energy.joules == pytest.approx(1200 * 0.75 + 200 * 0.5, rel=0.02)
    assert 0 < energy.low < energy.joules
    assert energy.high == 1410


def test_a_device_without_a_counter_is_integrated(start: Start) -> None:
    fake, (sensor,) = start(FakeGpu(name="Tesla T4", architecture=TURING, counter=False))
    assert isinstance(sensor, NvmlPower)
    sensor.read()
    time.sleep(0.3)
    begin = sensor.read()
    with fake.load(0, 300):
        for _ in range(12):
            time.sleep(0.05)
            sensor.read()
    for _ in range(6):
        time.sleep(0.05)
        end = sensor.read()
    true = fake.true_joules(0, begin.at, end.at)
    energy = sensor.ours(
        Energy(
            end.value - begin.value, end.value - begin.value, end.value - begin.value, "measured", "power"
        ),
        begin,
        end,
    )
    assert energy.low <= true <= energy.high
    assert energy.joules == pytest.approx(true, rel=0.15)


def test_without_samples_the_power_is_asked_for_at_each_read(start: Start) -> None:
    fake, _ = start(FakeGpu(name="Tesla T4", architecture=TURING, counter=False))
    with fake.fault("nvmlDeviceGetSamples", pynvml.NVML_ERROR_NOT_SUPPORTED):
        (sensor,) = nvml_sensors(environ={})
        begin = sensor.read()
        time.sleep(0.2)
        end = sensor.read()
    assert end.value - begin.value == pytest.approx(70 * (end.at - begin.at), rel=1e-3)
    assert end.extra[0] == pytest.approx(0, abs=1e-6)
    sensor.close()
