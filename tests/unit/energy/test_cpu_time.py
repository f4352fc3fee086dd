from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from titan_nb.energy import cpu_time
from titan_nb.energy.cpu_time import CpuTimes, cpu_seconds, cpu_times

BURN = "import time\nwhile time.process_time() < 0.25: pass\n"


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_own_time_counts() -> None:
    before = cpu_times()
    burn(0.05)
    assert cpu_times().since(before) == pytest.approx(0.05, abs=0.03)


def test_a_live_child_and_its_child_count_and_stay_when_they_are_reaped() -> None:
    grandchild = (
        f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {BURN!r} + 'input()'], stdin=0)"
    )
    program = f"{grandchild}\n{BURN}\nprint(flush=True)\np.wait()"
    before = cpu_times()
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        deadline = time.monotonic() + 10
        while cpu_times().since(before) < 0.48 and time.monotonic() < deadline:
            time.sleep(0.01)
        live = cpu_times().since(before)
        assert live >= 0.48
        child.communicate(b"\n")
    assert cpu_times().since(before) >= live - 0.03


def test_no_child_costs_no_look_into_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> float:
        raise AssertionError("looked")

    monkeypatch.setattr(cpu_time, "_live_descendants", fail)
    monkeypatch.setattr(cpu_time.os, "waitid", raise_(ChildProcessError))
    assert cpu_seconds() > 0


def test_when_the_kernel_does_not_tell_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_time, "_live_descendants", lambda: 1e6)
    monkeypatch.setattr(cpu_time.os, "waitid", raise_(OSError))
    assert cpu_seconds() > 1e6


def test_processes_that_are_gone_count_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = 2**22 + 1
    assert list(cpu_time._children(gone)) == []
    monkeypatch.setattr(cpu_time, "_children", lambda pid: [gone] if pid == os.getpid() else [])
    assert cpu_time._live_descendants() == 0.0


def test_other_systems_count_what_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_time, "_LINUX", False)
    assert cpu_times().total >= cpu_times().own - 1
    monkeypatch.setattr(cpu_time.os, "name", "nt")
    own, total = cpu_times()
    assert own == total


def test_a_total_that_falls_still_counts_this_process() -> None:
    assert CpuTimes(2.0, 5.0).since(CpuTimes(1.0, 9.0)) == 1.0
    assert CpuTimes(1.0, 1.0).since(CpuTimes(2.0, 2.0)) == 0.0


def raise_(error: type[BaseException]) -> object:
    def function(*args: object) -> None:
        raise error

    return function
