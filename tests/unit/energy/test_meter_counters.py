"""Counters under a real meter and its real thread; the devices are simulated, and their truth is known."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy  # noqa: F401 - its import takes longer than a test's sampler may be stuck
import pytest

from titan_nb.energy import Discovery, FakeSensor, Meter, Sampler, Stretch, Window
from titan_nb.records import Energy, Measurement

WAIT = 5.0
KEY = "gpu:simulated"


@pytest.fixture
def make(sampler: Sampler) -> Iterator[Callable[..., Meter]]:
    meters: list[Meter] = []

    def make(*sensors: FakeSensor, **options: Any) -> Meter:
        meters.append(Meter(lambda: Discovery(tuple(sensors)), sampler, **options))
        meters[-1].status()
        return meters[-1]

    yield make
    for meter in meters:
        meter.close()


def gpu(key: str = KEY, watts: float = 70.0, **options: Any) -> FakeSensor:
    return FakeSensor(key, watts, blocking=True, limit_watts=700.0, **{"tick_seconds": 0.03, **options})


def cell(meter: Meter, sensor: FakeSensor, seconds: float) -> tuple[Window, Measurement]:
    """Run the device at full power for some time, in a window."""
    window = meter.begin()
    sensor.watts = 700
    time.sleep(seconds)
    sensor.watts = 70
    return window, window.end()


def holds(energy: Energy, joules: float) -> bool:
    assert energy.low is not None
    assert energy.high is not None
    return energy.low - 1e-6 <= joules <= energy.high + 1e-6


def truth(sensor: FakeSensor, window: Window | Stretch) -> float:
    assert window.ended is not None
    return sensor.true_joules(window.started, window.ended)


def test_a_figure_is_there_at_once_and_better_within_a_tick(make: Callable[..., Meter]) -> None:
    sensor, told = gpu(), []
    meter = make(sensor)
    cell(meter, sensor, 0.2)[0].settle(WAIT)
    time.sleep(0.1)
    window, first = cell(meter, sensor, 0.2)
    asked = threading.Event()
    window.refined(lambda measurement: (told.append(measurement), asked.set()))  # type: ignore[func-returns-value]
    true = truth(sensor, window)
    assert holds(first.energy[KEY], true)
    began = time.monotonic()
    settled = window.settle(WAIT)
    assert time.monotonic() - began < 1.0
    assert holds(settled.energy[KEY], true)
    assert settled.energy[KEY].joules == pytest.approx(true, rel=0.1)
    assert settled.energy[KEY].grade == "measured"
    assert asked.wait(WAIT)
    assert told == [settled]


def test_a_short_cell_is_bounded_and_not_zero(make: Callable[..., Meter]) -> None:
    sensor = gpu(tick_seconds=0.1)
    meter = make(sensor)
    window, _ = cell(meter, sensor, 0.01)
    energy = window.settle(WAIT).energy[KEY]
    assert energy.grade == "bounded"
    assert energy.low == 0
    assert energy.joules
    assert holds(energy, truth(sensor, window))


def test_cells_and_gaps_hold_their_truth_and_add_up(make: Callable[..., Meter]) -> None:
    source = random.Random(4)
    sensor = gpu(tick_seconds=0.02, jitter_seconds=0.001)
    meter = make(sensor)
    windows = [cell(meter, sensor, 0.05)[0]]
    first = windows[0]
    for _ in range(15):
        time.sleep(source.choice((0, 0.001, 0.03, 0.06)))
        try:
            windows.append(cell(meter, sensor, source.choice((0.0, 0.005, 0.04, 0.08)))[0])
            if source.random() < 0.2:
                raise ValueError
        except ValueError:
            pass  # A cell that fails ends like any other.
    energies = [window.settle(WAIT).energy[KEY] for window in windows]
    gaps = [window.gap for window in windows[1:]]
    assert first.gap is None
    total = 0.0
    for window, energy in zip(windows, energies, strict=True):
        assert holds(energy, truth(sensor, window))
        total += energy.joules or 0.0
    for gap in gaps:
        assert gap is not None
        energy = gap.energy[KEY]
        assert holds(energy, truth(sensor, gap))
        assert energy.joules is not None
        assert energy.joules >= 0
        total += energy.joules
    ended = windows[-1].ended
    assert ended is not None
    # The joules at both ends belong to ticks that cells and gaps outside share in.
    assert total == pytest.approx(sensor.true_joules(first.started, ended), abs=700 * 0.02)


def test_windows_that_overlap_leave_a_tail(make: Callable[..., Meter]) -> None:
    sensor = gpu()
    meter = make(sensor)
    one = meter.begin()
    time.sleep(0.05)
    other = meter.begin()
    time.sleep(0.05)
    one.end()
    assert one.tail is not None
    assert not one.last
    time.sleep(0.05)
    other.end()
    assert other.last
    assert other.tail is one.tail
    settled = threading.Event()
    one.tail.when_final(settled.set)
    assert settled.wait(WAIT)
    assert one.tail.started == one.ended
    assert one.tail.ended == other.ended
    assert holds(one.tail.energy[KEY], truth(sensor, one.tail))


def test_what_a_window_has_used_so_far(make: Callable[..., Meter], sampler: Sampler) -> None:
    sensor = gpu()
    window = make(sensor).begin()
    sensor.watts = 700
    time.sleep(0.3)
    told: list[Measurement] = []
    sampler.submit(lambda: told.append(window.so_far())).wait(WAIT)
    energy = told[0].energy[KEY]
    assert energy.joules == pytest.approx(210, rel=0.5)
    assert holds(energy, 210)
    window.end()
    assert window.so_far().energy.keys() == {KEY}


def test_the_course_of_a_cell(make: Callable[..., Meter]) -> None:
    sensor = gpu(tick_seconds=0.02)
    meter = make(sensor)
    cell(meter, sensor, 0.1)[0].settle(WAIT)
    time.sleep(0.1)
    window, _ = cell(meter, sensor, 0.5)
    window.settle(WAIT)
    trace = window.traces()[KEY]
    assert len(trace.seconds) == len(trace.watts) + 1
    assert trace.watts.max() == pytest.approx(700, rel=0.2)


@pytest.mark.parametrize(
    "fault", ["raise", "base exception", "memory error", "nan", "inf", "negative", "wrong type"]
)
def test_one_failed_read_costs_a_warning_and_no_joule(make: Callable[..., Meter], fault: Any) -> None:
    sensor = gpu(faults=[None] * 5 + [fault])
    meter = make(sensor)
    window, _ = cell(meter, sensor, 0.2)
    settled = window.settle(WAIT)
    assert holds(settled.energy[KEY], truth(sensor, window))
    warnings = settled.warnings or meter.begin().end().warnings
    assert len(warnings) == 1


@pytest.mark.parametrize("fault", ["reset", "huge"])
def test_a_counter_that_is_reset_or_jumps(make: Callable[..., Meter], fault: Any) -> None:
    sensor = gpu(faults=[None] * 8 + [fault])
    meter = make(sensor)
    lost = cell(meter, sensor, 0.2)[0].settle(WAIT)
    time.sleep(0.1)
    window, first = cell(meter, sensor, 0.2)
    settled = window.settle(WAIT)
    if fault == "reset":
        assert lost.energy[KEY].grade == "unknown"
    assert holds(settled.energy[KEY], truth(sensor, window))
    assert len({*lost.warnings, *first.warnings}) == 1


def test_a_device_that_is_lost_and_comes_back(make: Callable[..., Meter]) -> None:
    sensor = gpu()
    meter = make(sensor, gpu("gpu:other"))
    cell(meter, sensor, 0.1)[0].settle(WAIT)
    sensor._faults.extend(["raise"] * 1000)
    lost, first = cell(meter, sensor, 0.1)
    settled = lost.settle(WAIT)
    assert settled.energy[KEY].grade == "unknown"
    assert "simulated fault" in settled.energy[KEY].source
    assert settled.energy["gpu:other"].joules is not None
    sensor._faults.clear()
    time.sleep(0.05)
    back, second = cell(meter, sensor, 0.2)
    assert holds(back.settle(WAIT).energy[KEY], truth(sensor, back))
    assert len({*first.warnings, *settled.warnings, *second.warnings}) == 1


def test_a_hung_counter_is_left_out_and_the_others_go_on(make: Callable[..., Meter]) -> None:
    gate = threading.Event()
    bad = gpu("gpu:bad", faults=[None] * 4 + ["hang"], sleep=lambda _: gate.wait(WAIT))
    good = gpu()
    meter = make(bad, good)
    for _ in range(10):
        window, _ = cell(meter, good, 0.05)
    settled = window.settle(WAIT)
    assert "left out" in settled.energy["gpu:bad"].source
    assert holds(settled.energy[KEY], truth(good, window))
    gate.set()


def test_a_counter_that_hangs_within_a_cell_does_not_hang_the_successor(
    make: Callable[..., Meter], sampler: Sampler
) -> None:
    gate = threading.Event()
    bad = gpu("gpu:bad", sleep=lambda _: gate.wait(4 * WAIT))
    good = gpu()
    meter = make(bad, good)
    cell(meter, good, 0.1)[0].settle(WAIT)
    window = meter.begin()
    bad._faults.extend(["hang"] * 1000)
    for _ in range(3):
        time.sleep(0.2)
        sampler.check()
    window.end()
    for _ in range(5):  # long enough for the successor to be found stuck, if it were
        window, _ = cell(meter, good, 0.1)
    energy = window.settle(1.0).energy
    gate.set()
    assert "left out" in energy["gpu:bad"].source
    assert holds(energy[KEY], truth(good, window))


def test_an_abandoned_window_leaves_nothing_open(make: Callable[..., Meter]) -> None:
    sensor = gpu()
    meter = make(sensor)
    meter.begin()
    gc.collect()
    window, _ = cell(meter, sensor, 0.1)
    assert holds(window.settle(WAIT).energy[KEY], truth(sensor, window))
    assert window.last
    assert cell(meter, sensor, 0.05)[0].gap is not None


def test_a_suspended_machine_is_a_pause_like_any_other(make: Callable[..., Meter]) -> None:
    """While the machine sleeps neither its clock nor its threads go on, and the device draws nothing."""
    asleep = [0.0]

    def clock() -> float:
        return time.perf_counter() - asleep[0]

    sensor = gpu(clock=clock)
    meter = make(sensor, clock=clock)
    window = meter.begin()
    time.sleep(0.1)
    before = time.perf_counter()
    with meter._use.books.lock:  # stands in for threads that do not run
        time.sleep(0.4)
        asleep[0] += time.perf_counter() - before
    time.sleep(0.1)
    window.end()
    energy = window.settle(WAIT).energy[KEY]
    assert holds(energy, truth(sensor, window))
    assert window.end().seconds < 0.45


def test_a_clock_that_fails_leaves_the_counters_in_order(make: Callable[..., Meter]) -> None:
    broken = [False]

    def clock() -> float:
        return float("nan") if broken[0] else time.perf_counter()

    sensor = gpu()
    meter = make(sensor, clock=clock)
    window = meter.begin()
    broken[0] = True
    assert window.end().energy[KEY] == Energy.unknown("the clock failed or went backwards")
    failed = meter.begin()
    assert failed.end().energy[KEY].grade == "unknown"
    broken[0] = False
    window, _ = cell(meter, sensor, 0.2)
    assert holds(window.settle(WAIT).energy[KEY], truth(sensor, window))


def test_windows_of_many_threads(make: Callable[..., Meter]) -> None:
    sensor, failures = gpu(), []
    meter = make(sensor)

    def work() -> None:
        for _ in range(10):
            window = meter.begin()
            time.sleep(0.01)
            energy = window.settle(WAIT).energy[KEY]
            if not holds(energy, truth(sensor, window)):
                failures.append(energy)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


SAMPLER_AT_WORK = """
import time
from titan_nb.energy import Discovery, FakeSensor, Meter

sensor = FakeSensor(watts=70, tick_seconds=0.1, limit_watts=700)
meter = Meter(lambda: Discovery((sensor,)))
meter.status()
spent = []

def note():
    meter.sampler.submit(lambda: spent.append(time.thread_time())).wait(5)

for _ in range(4):
    window = meter.begin()
    time.sleep(0.3)
    window.settle(5)
time.sleep(1)
note()
time.sleep(4)
note()
window = meter.begin()
time.sleep(3)
note()
window.end()
print((spent[1] - spent[0]) / 4, (spent[2] - spent[1]) / 3)
"""


def test_idle_the_sampler_hardly_works() -> None:
    """At most 0.2 % of a core between cells, at most 1 % within one: CPU time of the thread.

    In a process of its own, without the tracing of the test's coverage.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    done = subprocess.run(
        [sys.executable, "-c", SAMPLER_AT_WORK], capture_output=True, text=True, env=environment, check=True
    )
    idle, busy = map(float, done.stdout.split())
    print(f"sampler: {idle:.2%} of a core idle, {busy:.2%} in a cell")
    assert idle <= 0.002
    assert busy <= 0.01


def test_closing_ends_the_looks(make: Callable[..., Meter]) -> None:
    sensor = gpu()
    meter = make(sensor)
    cell(meter, sensor, 0.1)
    meter.close()
    reads = sensor.reads
    time.sleep(0.1)
    assert sensor.reads == reads
    assert sensor.closed
