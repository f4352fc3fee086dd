from __future__ import annotations

import threading

import pytest

from titan_nb.energy import chips
from titan_nb.energy.cgroup import CpuLimits
from titan_nb.energy.chips import EVERY_FAMILY, Cpu, ThreadWatts
from titan_nb.energy.sensors import Reading, cpu_model
from titan_nb.energy.sensors.cpu_model import CpuModel
from titan_nb.errors import SensorError
from titan_nb.host import process_id

# Three CPU seconds in one second, so on three CPUs or more.
BEGIN, END = Reading(0.0, 10.0, (5.0,)), Reading(1.0, 13.0, (6.0,))


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_model, "cpu_limits", lambda: CpuLimits(64, 8, 4.0))


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls = []

    def look_up(cpu: Cpu, table: object) -> ThreadWatts:
        calls.append(1)
        return ThreadWatts(1.5, 3.0, 11.0, 57)

    monkeypatch.setattr(chips, "look_up", look_up)
    monkeypatch.setattr(chips, "this_cpu", lambda: Cpu("AMD EPYC"))
    return calls


def test_cpu_seconds_times_watts_per_thread_with_the_range_of_the_family(family: list[int]) -> None:
    model = CpuModel()
    model.prepare()
    energy = model.energy(BEGIN, END, 0, 1)
    assert (energy.joules, energy.low, energy.high, energy.grade) == (9.0, 4.5, 33.0, "modelled")
    assert "57 chips match 'AMD EPYC'" in energy.source
    assert "own error is not in the interval" in energy.source
    assert model.name == "AMD EPYC"


def test_one_chip_has_no_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chips, "look_up", lambda *_: ThreadWatts(4.8, 4.8, 4.8, 1))
    monkeypatch.setattr(chips, "this_cpu", lambda: Cpu("Alpha 1"))
    model = CpuModel()
    model.prepare()
    energy = model.energy(BEGIN, END, 0, 1)
    assert energy.low == energy.joules == energy.high == pytest.approx(14.4)
    assert "4.8 W per thread of Alpha 1" in energy.source


@pytest.mark.parametrize(
    ("name", "words"), [("Foo 1", "'Foo 1' is in no table"), ("", "does not tell the name")]
)
def test_an_unknown_chip_has_the_range_of_all(monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.setattr(chips, "look_up", lambda *_: ThreadWatts(0.5, 8.0, 99.0, 1000, EVERY_FAMILY))
    monkeypatch.setattr(chips, "this_cpu", lambda: Cpu(name))
    model = CpuModel()
    model.prepare()
    energy = model.energy(BEGIN, END, 0, 1)
    assert (energy.joules, energy.low, energy.high) == (24.0, 1.5, 297.0)
    assert words in energy.source
    assert "1000 chips of all makes, 0.5 to 99 W" in energy.source


def test_a_lump_of_cpu_time_is_cut_to_what_the_allowed_cpus_can_have_worked(family: list[int]) -> None:
    model = CpuModel()
    model.prepare()
    lump = Reading(1.0, 1000.0, (6.0,))
    energy = model.energy(BEGIN, lump, 0, 1)
    assert energy.joules == pytest.approx(8 * 3.0)
    assert energy.high == pytest.approx(8 * 11.0)
    assert model.limits == "limited to 8 of 64 CPUs and the time of 4 CPUs"


def test_a_quota_does_not_change_the_model(family: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_model, "cpu_limits", lambda: CpuLimits(64, 64, 0.5))
    model = CpuModel()
    assert model.limits == ""
    model.prepare()
    assert model.energy(BEGIN, END, 0, 1).joules == pytest.approx(9.0)


def test_the_tables_are_read_once_however_many_ask(family: list[int]) -> None:
    model = CpuModel()
    threads = [threading.Thread(target=model.prepare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(family) == 1


@pytest.mark.parametrize("error", [SensorError("no such chip"), OSError("gone"), KeyError("TDP")])
def test_what_the_tables_do_not_tell_is_unknown_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> ThreadWatts:
        raise error

    monkeypatch.setattr(chips, "look_up", fail)
    model = CpuModel()
    for _ in range(2):
        with pytest.raises(SensorError, match=str(error.args[0])):
            model.prepare()
    energy = model.energy(BEGIN, END, 0, 1)
    assert energy.grade == "unknown"
    assert str(error.args[0]) in energy.source


def test_before_the_tables_are_read_it_is_unknown() -> None:
    assert CpuModel().energy(BEGIN, END, 0, 1).grade == "unknown"


def test_a_reading_is_this_processs_cpu_time() -> None:
    model = CpuModel()
    assert model.key == f"cpu-process:{process_id()}"
    first = model.read()
    sum(range(200_000))
    second = model.read()
    assert second.value > first.value
    assert second.at > first.at
    model.close()
