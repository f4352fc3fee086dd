from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.energy.meters import KEY, WAIT, Gate, model, ready
from titan_nb.energy import Discovery, FakeSensor, Meter, Sampler
from titan_nb.energy.window import FORKED, NOT_IN_TIME
from titan_nb.host import process_id
from titan_nb.records import Energy, Measurement

FAULTS = ("raise", "base exception", "memory error", "nan", "inf", "negative", "wrong type", "huge", "reset")


# What is measured


def test_an_inline_counter_is_measured_exactly(make: Callable[..., Meter], clock: Any) -> None:
    sensor = model(watts=70, clock=clock)
    meter = ready(make(sensor, clock=clock))
    window = meter.begin()
    clock.now += 2.0
    sensor.watts = 700
    clock.now += 1.0
    measurement = window.end()
    assert measurement.seconds == 3.0
    assert measurement.energy[KEY] == Energy(840, 840, 840, "modelled", "simulated counter")
    assert measurement.warnings == ()
    assert window.end() is measurement
    assert window.settle() is measurement


def test_a_blocking_counter_is_read_on_the_samplers_thread(make: Callable[..., Meter]) -> None:
    names = []

    class Noting(FakeSensor):
        def read(self) -> Any:
            names.append(threading.current_thread().name)
            return super().read()

    window = ready(make(Noting(blocking=True, counter=False))).begin()
    time.sleep(0.02)
    energy = window.settle().energy[KEY]
    assert energy.joules == pytest.approx(2.0, rel=0.8)
    assert set(names) == {"titan-sampler"}


def test_the_first_window_finds_its_sensors(make: Callable[..., Meter]) -> None:
    window = make(model(blocking=True), model("gpu:other")).begin()
    measurement = window.settle()
    assert {key: energy.grade for key, energy in measurement.energy.items()} == {
        KEY: "modelled",
        "gpu:other": "modelled",
    }


def test_this_machine_in_truth() -> None:
    meter = Meter()
    ready(meter)
    window = meter.begin()
    sum(range(1_000_000))
    measurement = window.end()
    meter.close()
    assert 0 < measurement.cpu_seconds <= 10
    ram = measurement.energy[f"ram:{process_id()}"]
    assert ram.grade == "modelled"
    assert ram.joules is not None
    assert 0 < ram.joules < 0.375 * 64 * measurement.seconds
    assert all(energy.source for energy in measurement.energy.values())


def test_without_sensors_that_block_nothing_is_handed_over(
    make: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch, sampler: Sampler
) -> None:
    meter = ready(make(model()))
    monkeypatch.setattr(sampler, "submit", lambda *_: pytest.fail("handed over"))
    assert meter.begin().end().energy[KEY].grade == "modelled"
    monkeypatch.undo()


# Faults


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("edge", [0, 1])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_makes_its_device_unknown_and_no_other(
    make: Callable[..., Meter], fault: Any, edge: int, blocking: bool
) -> None:
    bad = model("gpu:bad", faults=[None] * edge + [fault], blocking=blocking)
    meter = ready(make(bad, model(blocking=blocking), max_wait_seconds=WAIT))
    window = meter.begin()
    time.sleep(0.001)
    measurement = window.settle()
    assert measurement.energy[KEY].grade == "modelled"
    if fault == "reset" and edge == 0:
        assert measurement.energy["gpu:bad"].joules is not None
    else:
        assert measurement.energy["gpu:bad"].grade == "unknown"
        assert measurement.energy["gpu:bad"].source
        assert len(measurement.warnings) == 1


def test_a_thousand_faults_give_one_warning_per_kind(make: Callable[..., Meter]) -> None:
    rng = random.Random(2)
    kinds = [
        "raise",
        "base exception",
        "memory error",
        "nan",
        "inf",
        "negative",
        "wrong type",
        "huge",
        "reset",
    ]
    faults = [rng.choice([None, *kinds]) for _ in range(2000)]
    meter = ready(make(model(faults=faults)))
    warnings: list[str] = []
    for _ in range(1000):
        measurement = meter.begin().end()
        warnings += measurement.warnings
        energy = measurement.energy[KEY]
        assert energy.grade == "unknown" or 0 <= energy.low <= energy.joules <= energy.high < 1e3  # type: ignore[operator]
    assert 1 <= len(warnings) <= 2


def test_nonsense_power_is_unknown(make: Callable[..., Meter]) -> None:
    window = ready(make(model(watts=1e9))).begin()
    time.sleep(0.001)
    window._slots[KEY].begin = type(window._slots[KEY].begin)(window.started, 0.0)  # type: ignore[union-attr]
    window._slots[KEY].sensor.watts = 1e12  # type: ignore[union-attr]
    time.sleep(0.01)
    assert "more than any device can draw" in window.end().energy[KEY].source


@pytest.mark.parametrize("broken", ["raises", "nan", "backwards"])
def test_a_clock_that_fails_leaves_the_time_and_no_energy(make: Callable[..., Meter], broken: str) -> None:
    readings = iter([10.0, {"raises": None, "nan": float("nan"), "backwards": 3.0}[broken]])

    def clock() -> float:
        return float(next(readings))  # type: ignore[arg-type]

    meter = ready(make(model(), clock=clock))
    window = meter.begin()
    time.sleep(0.01)
    measurement = window.end()
    assert 0.009 < measurement.seconds < 5
    assert measurement.energy[KEY] == Energy.unknown("the clock failed or went backwards")
    assert len(measurement.warnings) == 1


def test_an_interrupt_in_a_read_is_the_users(make: Callable[..., Meter]) -> None:
    class Interrupted(FakeSensor):
        def read(self) -> Any:
            raise KeyboardInterrupt

    meter = ready(make(Interrupted(counter=False)))
    with pytest.raises(KeyboardInterrupt):
        meter.begin()


# Late answers


def test_a_slow_begin_is_used_when_it_arrives_before_the_end(make: Callable[..., Meter]) -> None:
    gate = Gate()
    sensor = model(blocking=True, faults=["hang"], sleep=gate)
    window = ready(make(sensor)).begin()
    time.sleep(0.03)
    gate.event.set()
    time.sleep(0.03)
    energy = window.settle().energy[KEY]
    assert energy.grade == "modelled"
    assert energy.joules is not None
    assert energy.joules > 0


def test_what_arrives_after_the_end_refines_the_measurement(make: Callable[..., Meter]) -> None:
    gate, told = Gate(), []
    sensor = model(blocking=True, faults=[None, "hang"], sleep=gate)
    window = ready(make(sensor, model("gpu:quick"))).begin()
    started = time.perf_counter()
    first = window.end()
    assert time.perf_counter() - started < 0.1
    assert first.energy[KEY] == Energy.unknown(NOT_IN_TIME)
    assert first.energy["gpu:quick"].grade == "modelled"
    arrived = threading.Event()

    def refine(measurement: Measurement) -> None:
        told.append((measurement, threading.current_thread().name))
        arrived.set()

    window.refined(refine)
    gate.event.set()
    refined = window.settle(WAIT)
    assert arrived.wait(WAIT)
    assert refined.energy[KEY].grade == "modelled"
    assert told == [(refined, "titan-sampler")]
    window.refined(refine)  # late, and called all the same
    deadline = time.monotonic() + WAIT
    while len(told) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(told) == 2


def test_a_callback_that_fails_becomes_a_warning(make: Callable[..., Meter]) -> None:
    gate = Gate()
    meter = ready(make(model(blocking=True, faults=[None, "hang"], sleep=gate)))
    window = meter.begin()
    window.end()
    window.refined(lambda _: 1 / 0)  # type: ignore[arg-type,return-value]
    gate.event.set()
    window.settle(WAIT)
    meter.sampler.submit(lambda: None).wait(WAIT)
    assert "ZeroDivisionError" in meter.begin().end().warnings[0]


def test_a_callback_is_not_called_when_all_was_in_time(make: Callable[..., Meter], sampler: Sampler) -> None:
    told: list[Measurement] = []
    window = ready(make(model(blocking=True), max_wait_seconds=WAIT)).begin()
    window.refined(told.append)
    window.end()
    window.refined(told.append)
    sampler.submit(lambda: None).wait(WAIT)
    assert told == []


def test_a_begin_that_arrives_after_the_end_is_unknown(make: Callable[..., Meter]) -> None:
    gate = Gate()
    window = ready(make(model(blocking=True, faults=["hang"], sleep=gate))).begin()
    window.end()
    gate.event.set()
    assert window.settle(WAIT).energy[KEY] == Energy.unknown(NOT_IN_TIME)


def test_a_hung_sensor_never_delays_more_than_the_waits_and_is_left_out(make: Callable[..., Meter]) -> None:
    gate = Gate()
    bad = model("gpu:bad", blocking=True, faults=["hang"], sleep=gate)
    meter = ready(make(bad, model(blocking=True)))
    warnings, durations = [], []
    for _ in range(20):
        started = time.perf_counter()
        measurement = meter.begin().end()
        durations.append(time.perf_counter() - started)
        warnings += measurement.warnings
        assert measurement.energy["gpu:bad"].grade == "unknown"
        time.sleep(0.01)
    last = meter.begin().settle(WAIT)
    warnings += last.warnings
    assert last.energy[KEY].grade == "modelled"
    assert "left out" in last.energy["gpu:bad"].source
    # Twice 20 ms and a little of our own; what a busy machine adds now and then is not ours.
    assert sorted(durations)[len(durations) * 3 // 4] < 0.05
    assert len([line for line in warnings if "left out" in line]) == 1
    assert any(not finding.available and finding.device == bad.name for finding in meter.status())
    gate.event.set()


def test_when_the_successor_is_stuck_too_nothing_waits(make: Callable[..., Meter], sampler: Sampler) -> None:
    gate = threading.Event()
    meter = ready(make(model(blocking=True)))
    for _ in range(2):
        sampler.submit(lambda: gate.wait(WAIT))
        for _ in range(2):
            time.sleep(0.2)
            sampler.check()
    started = time.perf_counter()
    measurement = meter.begin().end()
    assert time.perf_counter() - started < 0.1
    assert "stuck" in measurement.energy[KEY].source
    gate.set()


# Life


def test_close_closes_the_sensors_and_stops_its_own_thread() -> None:
    sensor = model()
    meter = Meter(lambda: Discovery((sensor,)))
    ready(meter)
    thread = meter.sampler._thread
    meter.close()
    assert sensor.closed
    assert thread is not None
    assert not thread.is_alive()
    ready(meter)
    assert meter.begin().end().energy[KEY].grade == "modelled"
    meter.close()


def test_a_hundred_meters_leave_no_thread_and_no_file() -> None:
    def state() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = state()
    for _ in range(100):
        meter = Meter(lambda: Discovery((model(blocking=True),)))
        meter.begin().end()
        meter.close()
    assert state() == before


def test_windows_in_many_threads(make: Callable[..., Meter]) -> None:
    meter, failures = make(model(blocking=True), model("gpu:inline"), max_wait_seconds=WAIT), []

    def work() -> None:
        for _ in range(50):
            energy = meter.begin().end().energy
            if {part.grade for part in energy.values()} != {"modelled"} or len(energy) != 2:
                failures.append(energy)

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert failures == []


def in_child(function: Callable[[], bool]) -> bool:
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if function() else 1)
        except BaseException:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_measures_only_time(make: Callable[..., Meter]) -> None:
    meter = ready(make(model(blocking=True)))
    before = meter.begin()

    def child() -> bool:
        inherited = before.end()
        window = meter.begin()
        window.refined(lambda _: None)
        time.sleep(0.01)
        own = window.settle()
        told = meter.status()
        meter.close()
        return (
            inherited.warnings == own.warnings == (FORKED,)
            and inherited.energy == own.energy == {}
            and own.seconds >= 0.01
            and told[0].why == FORKED
            and threading.active_count() == 1
        )

    for _ in range(20):
        assert in_child(child)
    assert before.settle().energy[KEY].grade == "modelled"
