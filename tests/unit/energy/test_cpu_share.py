from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from titan_nb.energy import cpu_share
from titan_nb.energy.cpu_share import CpuMoment, MachineCpu, charge_share, charge_whole
from titan_nb.errors import SensorError
from titan_nb.records import Energy

TICK = 1 / os.sysconf("SC_CLK_TCK")
WHOLE = Energy(1000.0, 900.0, 1100.0, "measured", "counter", idle_joules=400.0)


@pytest.fixture
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_share.os, "cpu_count", lambda: 4)


def moments(ours: float, busy: float) -> tuple[CpuMoment, CpuMoment]:
    return CpuMoment(1.0, 2.0, 50.0), CpuMoment(1.0 + ours, 2.0 + ours, 50.0 + busy)


@pytest.mark.usefixtures("four_cpus")
def test_our_share_of_what_all_used() -> None:
    energy = charge_share(WHOLE, *moments(5, 20), 10.0)
    assert energy.joules == pytest.approx(250)
    assert energy.low == pytest.approx(900 * 5 / 40)
    assert energy.high == 1100
    assert energy.idle_joules == pytest.approx(100)
    assert (energy.grade, energy.source) == ("shared", "counter")


@pytest.mark.usefixtures("four_cpus")
@pytest.mark.parametrize(("ours", "busy"), [(0.005, 0.0), (3.0, 2.9), (40.0, 40.0), (400.0, 0.0)])
def test_coarse_counts_of_the_machine_never_give_more_than_everything(ours: float, busy: float) -> None:
    energy = charge_share(WHOLE, *moments(ours, busy), 10.0)
    assert energy.joules == 1000
    assert 0 < energy.low <= 900


@pytest.mark.parametrize("seconds", [0.0, 10.0])
def test_who_used_nothing_is_charged_nothing_but_may_have_caused_all(seconds: float) -> None:
    energy = charge_share(WHOLE, *moments(0, 0), seconds)
    assert (energy.joules, energy.low, energy.high) == (0, 0, 1100)


def test_children_count_as_ours() -> None:
    energy = charge_share(WHOLE, CpuMoment(1, 3, 0), CpuMoment(1, 8, 10), 10.0)
    assert energy.joules == pytest.approx(500)


def test_bounded_stays_bounded_and_unknown_unknown() -> None:
    bounded = Energy(3.0, 0.0, 9.0, "bounded", "short")
    assert charge_share(bounded, *moments(1, 2), 1.0).grade == "bounded"
    assert charge_whole(bounded).grade == "bounded"
    unknown = Energy.unknown("gone")
    assert charge_share(unknown, *moments(1, 2), 1.0) is unknown
    assert charge_whole(unknown) is unknown


def test_a_whole_device_may_have_been_used_by_others() -> None:
    energy = charge_whole(WHOLE, "modelled")
    assert (energy.joules, energy.low, energy.high, energy.grade) == (1000, 0, 1100, "modelled")
    assert energy.source == "counter; the whole device: whether others use it is not known"


def proc_stat(folder: Path, user: int = 100) -> Path:
    path = folder / "stat"
    path.write_text(f"cpu  {user} 20 30 9999 50 5 5 70 3 0\ncpu0 1 2 3\n", encoding="ascii")
    return path


def test_busy_is_what_is_neither_idle_nor_waiting_nor_taken(tmp_path: Path) -> None:
    moment = MachineCpu(proc_stat(tmp_path)).read()
    assert moment.busy == pytest.approx(160 * TICK)
    assert 0 < moment.own <= moment.total


def test_the_machine_is_asked_again_only_after_fifty_times_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 1.0, 50.9, 51.0, 51.0])
    machine = MachineCpu(proc_stat(tmp_path))
    monkeypatch.setattr(cpu_share.time, "perf_counter", lambda: next(times))
    busy = [machine.read().busy]  # from 0 to 1: good until 51
    proc_stat(tmp_path, user=200)
    busy.append(machine.read().busy)  # at 50.9
    busy.append(machine.read().busy)  # at 51
    assert busy == pytest.approx([160 * TICK, 160 * TICK, 260 * TICK])


@pytest.mark.parametrize("content", ["", "cpu 1 2", "cpu a b c d e f g"])
def test_a_broken_proc_stat_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "stat"
    path.write_text(content, encoding="ascii")
    with pytest.raises(SensorError, match="no line of CPU time"):
        MachineCpu(path).read()
    with pytest.raises(SensorError, match="cannot be read: No such file"):
        MachineCpu(tmp_path / "none").read()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_this_machine_is_at_least_as_busy_as_we_are(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(cpu_share, "_PLATFORM", platform)
    machine = MachineCpu()
    begin = machine.read()
    while time.process_time() < begin.own + 0.1:
        sum(range(1000))
    machine._fresh_until = 0.0
    end = machine.read()
    assert end.busy - begin.busy >= 0.1 - 4 * TICK
