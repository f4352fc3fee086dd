"""What a window does while the search for its devices goes on."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.energy.meters import KEY, WAIT, model
from titan_nb.energy import Discovery, FakeSensor, Meter
from titan_nb.energy import window as window_module
from titan_nb.energy.cpu_time import CpuTimes, cpu_times
from titan_nb.energy.probes import Probe
from titan_nb.energy.window import NOT_IN_TIME, TOO_LATE
from titan_nb.records import Energy


def slow_probe(gate: threading.Event, *sensors: FakeSensor, missing: Any = None) -> Any:
    def search() -> Discovery:
        gate.wait(WAIT)
        return Discovery(tuple(sensors), (), missing or {})

    return search


@pytest.mark.parametrize("blocking", [False, True])
def test_a_search_that_answers_in_the_window_gives_a_late_begin(
    make: Callable[..., Meter], blocking: bool
) -> None:
    gate = threading.Event()
    window = make(discover=slow_probe(gate, model(blocking=blocking), missing={"gpu:x": "lost"})).begin()
    gate.set()
    time.sleep(0.05)
    measurement = window.settle()
    assert measurement.energy[KEY].grade == "modelled"
    assert measurement.energy["gpu:x"] == Energy.unknown("lost")


def test_a_search_that_answers_after_the_window_leaves_it_unknown(make: Callable[..., Meter]) -> None:
    gate = threading.Event()
    meter = make(discover=slow_probe(gate, model(), missing={"gpu:x": "lost"}))
    window = meter.begin()
    assert window.end().energy == {}
    gate.set()
    assert window.settle(WAIT).energy[KEY] == Energy.unknown(TOO_LATE)
    assert meter.begin().end().energy["gpu:x"] == Energy.unknown("lost")


@pytest.fixture
def early(make: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A meter with one probe that has two models to read at once, and keeps one of them."""

    def build(run: Callable[[], Discovery], kept: FakeSensor, dropped: FakeSensor) -> Meter:
        meter = make()
        probe = Probe("models", run, (kept, dropped), "gpu:hint")
        monkeypatch.setattr(meter._use.devices, "_probes", lambda: (probe,))
        return meter

    return build


def test_models_are_read_before_the_search_has_answered(early: Any) -> None:
    kept, dropped, gate = model("kept"), model("dropped"), threading.Event()
    window = early(slow_probe(gate, kept), kept, dropped).begin()
    first = window.end()
    assert first.energy == dict.fromkeys(("kept", "dropped", "gpu:hint"), Energy.unknown(NOT_IN_TIME))
    gate.set()
    refined = window.settle(WAIT)
    assert set(refined.energy) == {"kept"}
    assert refined.energy["kept"].grade == "modelled"


def test_a_counter_may_be_found_while_the_window_opens(
    make: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, sensor = threading.Event(), FakeSensor("gpu:late", blocking=True, limit_watts=700.0)
    meter = make()
    probe = Probe("GPU", slow_probe(gate, sensor))
    monkeypatch.setattr(meter._use.devices, "_probes", lambda: (probe,))

    def slow_times() -> CpuTimes:
        gate.set()
        time.sleep(0.05)  # the search ends now
        return cpu_times()

    monkeypatch.setattr(window_module, "cpu_times", slow_times)
    window = meter.begin()
    time.sleep(0.1)
    assert window.settle(WAIT).energy["gpu:late"].joules is not None


def test_a_search_that_hangs_takes_only_its_own_devices(early: Any) -> None:
    kept, dropped, gate = model("kept"), model("dropped"), threading.Event()
    meter = early(slow_probe(gate, kept), kept, dropped)
    window = meter.begin()
    time.sleep(0.2)
    meter.sampler.check()
    time.sleep(0.2)
    settled = window.settle(WAIT)
    assert set(settled.energy) == {"kept", "dropped", "gpu:hint"}
    assert "did not answer" in settled.energy["gpu:hint"].source
    assert not meter.status()[0].available
    gate.set()


@pytest.mark.parametrize("search", [lambda: 1 / 0, lambda: "nonsense"])
def test_a_search_that_fails_is_told_and_breaks_nothing(make: Callable[..., Meter], search: Any) -> None:
    meter = make(discover=search, max_wait_seconds=WAIT)
    measurement = meter.begin().end()
    assert measurement.energy == {}
    assert "the search for devices failed" in meter.status()[0].why
    assert len(measurement.warnings) == 1


def test_status_says_what_has_not_answered(
    make: Callable[..., Meter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.import_module("titan_nb.energy.meter"), "_STATUS_SECONDS", 0.05)
    gate = threading.Event()
    meter = make(discover=slow_probe(gate))
    assert "did not answer within 0.05 s" in meter.status()[0].why
    gate.set()
