from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.nvml import NOT_AVAILABLE, FakeGpu, FakeNvml
from titan_nb.energy.sensors.nvml_session import NvmlSession
from titan_nb.energy.sensors.nvml_specimen import Specimen
from titan_nb.errors import SensorError

COUNTER = "nvmlDeviceGetTotalEnergyConsumption"
NOT_SUPPORTED, LOST = 3, 15


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNvml]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake = FakeNvml(tmp_path, [FakeGpu(tick_seconds=0.02), FakeGpu(name="NVIDIA T4", architecture=6)])
    with fake.in_process():
        yield fake
    assert not NvmlSession._open, "NVML was not given back"


def test_it_is_the_gpu_that_cuda_shows_at_that_place(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    names = []
    for position in (0, 1):
        specimen = Specimen(position)
        names.append((specimen.name, specimen.uuid[:12]))
        specimen.close()
    assert names == [("NVIDIA T4", "GPU-00000001"), ("NVIDIA H100 80GB HBM3", "GPU-00000000")]
    with pytest.raises(SensorError, match=r"no GPU 2 .see CUDA_VISIBLE_DEVICES"):
        Specimen(2)


def test_a_look_is_the_counter_s_value(fake: FakeNvml) -> None:
    specimen = Specimen()
    stamped = specimen.stamped_look()
    assert stamped is not None
    for look in (specimen.look(), stamped):
        shown = [fake.counter_joules(0, at) for at in (look.before, look.after)]
        assert shown[0] - 2e-3 <= look.joules <= shown[1] + 2e-3
    assert stamped.wall == pytest.approx(time.time(), abs=5)
    assert stamped.stamp == pytest.approx(stamped.wall, abs=1)
    assert specimen.watts() == pytest.approx(70)
    assert specimen.instant
    assert specimen.driver
    specimen.close()


def test_without_a_field_there_is_no_time_stamp(fake: FakeNvml) -> None:
    specimen = Specimen()
    with fake.fault("nvmlDeviceGetFieldValues", NOT_SUPPORTED):
        assert specimen.stamped_look() is None
    specimen.close()


@pytest.mark.parametrize("code", [NOT_SUPPORTED, NOT_AVAILABLE, LOST])
def test_without_a_counter_there_is_nothing_to_calibrate(fake: FakeNvml, code: int) -> None:
    specimen = Specimen()
    with fake.fault(COUNTER, code):
        with pytest.raises(SensorError, match="H100"):
            specimen.look()
        with pytest.raises(SensorError, match="H100"):
            Specimen()
    specimen.close()


def test_a_divided_gpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    fake = FakeNvml(tmp_path, [FakeGpu(mig_instances=2)])
    with fake.in_process(), pytest.raises(SensorError, match="MIG"):
        Specimen()
    assert not NvmlSession._open


def test_a_gpu_that_goes_meanwhile_is_told(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("titan_nb.energy.sensors.nvml_specimen.NvmlDevice.uuid", "GPU-else", raising=False)
    monkeypatch.setattr("titan_nb.energy.sensors.nvml_specimen.NvmlDevice.__init__", lambda *_: None)
    monkeypatch.setattr(
        "titan_nb.energy.sensors.nvml_specimen.nvml_sensors",
        lambda: [type("Sensor", (), {"key": "gpu:GPU-gone", "close": lambda self: None})()],
    )
    with pytest.raises(SensorError, match="GPU-gone is not there"):
        Specimen()


def test_how_the_driver_names_this_process(fake: FakeNvml) -> None:
    specimen = Specimen()
    assert (specimen.own_process, specimen.processes()) == ("none", frozenset())
    fake.start_process(0, 4_000_000)
    assert specimen.own_process == "other"
    fake.start_process(0, os.getpid())
    assert specimen.own_process == "own"
    assert specimen.processes() == {4_000_000, os.getpid()}
    specimen.close()


def test_latencies_are_those_of_the_calls(fake: FakeNvml) -> None:
    specimen = Specimen()
    with (
        fake.fault("nvmlDeviceGetPowerUsage", seconds=0.01),
        fake.fault("nvmlDeviceGetSamples", NOT_SUPPORTED),
        fake.fault(COUNTER, seconds=0.05, skip=19, times=1),
    ):
        found = specimen.latencies(20)
    specimen.close()
    assert "nvmlDeviceGetSamples(TOTAL_POWER_SAMPLES)" not in found
    # Nothing new is an answer too.
    assert len(found) == 7
    assert "nvmlDeviceGetProcessUtilization" in found
    assert found["nvmlDeviceGetPowerUsage"]["p50_seconds"] >= 0.01
    assert found[COUNTER]["p50_seconds"] < 0.05 <= found[COUNTER]["p99_seconds"]
