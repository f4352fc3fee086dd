"""The whole calibration on the fake driver library, whose truth is known."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml import FakeGpu, FakeNvml
from titan_nb.energy.experiment import Plan, calibrate
from titan_nb.energy.load import Busy
from titan_nb.energy.sensors.nvml_specimen import Specimen
from titan_nb.errors import SensorError

UUID = "GPU-00000000-0000-4000-8000-000000000000"
IDLE, CONTEXT, BUSY, TICK = 70.0, 110.0, 600.0, 0.04
SHORT = Plan(steady_seconds=1.5, idle_seconds=1.0, settle_seconds=0.2, bursts=4, calls=10)
TINY = Plan(steady_seconds=0.3, idle_seconds=0.2, settle_seconds=0.05, bursts=1, calls=2)


class FakeLoad:
    """Work on the fake GPU, exact in length and power; its context draws more than nothing for a while."""

    name = "fake load"

    def __init__(self, fake: FakeNvml, plan: Plan, uuid: str | None = UUID) -> None:
        self._fake, self._plan, self._uuid = fake, plan, uuid
        self._free_at = 0.0

    def open(self) -> str | None:
        self._fake.start_process(0, os.getpid())
        self._busy(self._plan.settle_seconds + self._plan.idle_seconds - 0.01, CONTEXT)
        return self._uuid

    def run(self, seconds: float) -> Busy:
        busy = self._busy(seconds, BUSY)
        time.sleep(max(0.0, busy.end - time.monotonic()))
        return busy

    def _busy(self, seconds: float, watts: float) -> Busy:
        begin = max(time.monotonic() + 1e-3, self._free_at)
        self._free_at = begin + seconds
        self._fake.busy(0, begin, self._free_at, watts)
        return Busy(begin, self._free_at)


Make = Callable[..., tuple[FakeNvml, Specimen]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    undo: list[Callable[[], Any]] = []

    def begin(**what: Any) -> tuple[FakeNvml, Specimen]:
        fake = FakeNvml(tmp_path, [FakeGpu(**{"tick_seconds": TICK, "idle_watts": IDLE, **what})])
        context = fake.in_process()
        context.__enter__()
        specimen = Specimen()
        undo.extend([lambda: context.__exit__(None, None, None), specimen.close])
        return fake, specimen

    yield begin
    for step in reversed(undo):
        step()


def true_jitter(fake: FakeNvml, begin: float, end: float) -> float:
    moments = fake.ticks(0, begin, end)
    line = statistics.linear_regression(range(len(moments)), moments)
    left = [at - line.intercept - line.slope * number for number, at in enumerate(moments)]
    return statistics.fmean(one**2 for one in left) ** 0.5


@pytest.mark.parametrize(("duty", "jitter", "stamps"), [(1.0, 0.0, False), (0.25, 0.004, True)])
def test_all_that_is_true_of_a_gpu_is_found(make: Make, duty: float, jitter: float, stamps: bool) -> None:
    fake, specimen = make(duty=duty, jitter_seconds=jitter, stamps_ticks=stamps)
    lines: list[str] = []
    begin = time.monotonic()
    found = calibrate(specimen, FakeLoad(fake, SHORT), SHORT, lines.append)
    assert found.tick_seconds == pytest.approx(TICK, rel=0.01)
    assert found.idle_tick_seconds == pytest.approx(TICK, rel=0.02)
    # 37 ticks of a load are few to know a scatter by.
    assert found.jitter_seconds == pytest.approx(
        true_jitter(fake, begin, time.monotonic()), rel=0.5, abs=1e-3
    )
    assert found.duty == pytest.approx(duty, abs=0.06), found
    assert found.timestamp_moves_with_ticks is stamps
    assert found.idle_watts == {
        "before_context": pytest.approx(IDLE, rel=0.02),
        "with_context": pytest.approx(CONTEXT, rel=0.1),
        "after_load": pytest.approx(IDLE, rel=0.02),
    }
    assert found.steady_watts == pytest.approx(BUSY, rel=0.02)
    assert found.agreement == pytest.approx(1, abs=0.02)
    assert found.burst_total_ratio == pytest.approx(1, abs=0.02 if duty == 1 else 0.6)
    assert (found.name, found.uuid, found.load) == (specimen.name, UUID, "fake load")
    assert (found.own_process, found.power, found.reduced) == ("own", "instant", True)
    assert len(found.latencies) == 8
    assert len(lines) == 6
    assert found.settings == {
        "duty": found.duty,
        "tick_seconds": found.tick_seconds,
        "timestamp_moves_with_ticks": stamps,
    }


def test_others_on_the_gpu_forbid_it(make: Make) -> None:
    fake, specimen = make()
    fake.start_process(0, 4_000_000)
    with pytest.raises(SensorError, match=r"others compute .*when it is free"):
        calibrate(specimen, FakeLoad(fake, TINY), TINY)


def test_others_who_come_meanwhile_spoil_it(make: Make) -> None:
    fake, specimen = make()

    def say(line: str) -> None:
        if line.startswith("bursts"):
            fake.start_process(0, 4_000_000)

    with pytest.raises(SensorError, match="others came"):
        calibrate(specimen, FakeLoad(fake, TINY), TINY, say)


def test_a_load_on_another_gpu_is_refused(make: Make) -> None:
    fake, specimen = make()
    with pytest.raises(SensorError, match=r"load is on GPU-else.*CUDA_DEVICE_ORDER=PCI_BUS_ID"):
        calibrate(specimen, FakeLoad(fake, TINY, uuid="GPU-else"), TINY)


def test_a_load_that_fails_ends_it(make: Make) -> None:
    fake, specimen = make()

    class Failing(FakeLoad):
        def run(self, seconds: float) -> Busy:
            raise SensorError("out of memory")

    with pytest.raises(SensorError, match="out of memory"):
        calibrate(specimen, Failing(fake, TINY), TINY)


def test_what_cannot_be_told_is_unknown(make: Make) -> None:
    # Ticks at every look have no period; a driver without fields has no time stamps, and here no power.
    fake, specimen = make(tick_seconds=0.0005)
    with (
        fake.fault("nvmlDeviceGetFieldValues", 3),
        fake.fault("nvmlDeviceGetPowerUsage", 3),
        fake.fault("nvmlDeviceGetComputeRunningProcesses", 3),
    ):
        found = calibrate(specimen, FakeLoad(fake, TINY, uuid=None), TINY)
    assert (found.tick_seconds, found.idle_tick_seconds, found.duty) == (None, None, None)
    assert found.duty_why == "the counter has no regular ticks"
    assert (found.agreement, found.timestamp_moves_with_ticks, found.own_process) == (None, False, "none")
    assert found.steady_watts == pytest.approx(BUSY, rel=0.05)


def test_a_shorter_plan_is_a_reduced_one() -> None:
    assert Plan.of(30) == Plan()
    assert not Plan.of(60).reduced
    quick = Plan.of(6)
    assert quick.reduced
    assert (quick.steady_seconds, quick.idle_seconds, quick.bursts) == (6, 1.5, 6)
