"""What part of the machine's CPU time this process and its children used."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from titan_nb.energy.cpu_time import CpuTimes, cpu_times
from titan_nb.errors import SensorError
from titan_nb.records import Energy, Grade

__all__ = ["PROC_STAT", "CpuMoment", "MachineCpu", "charge_share", "charge_whole"]

PROC_STAT = Path("/proc/stat")

_PLATFORM: str = sys.platform
_COST_LIMIT = 50


class CpuMoment(NamedTuple):
    """CPU time at one moment, in seconds.

    Attributes:
        own: Of this process alone.
        total: Of this process and its children; see `cpu_times`.
        busy: Of all processes of the machine.
    """

    own: float
    total: float
    busy: float


class MachineCpu:
    """The CPU time of this process and of the machine; the counters of one machine share it.

    Linux writes out a line for each of its CPUs to tell the machine's time, which takes a millisecond where
    there are hundreds. So it is asked again only after 50 times as long as the last answer took.

    Args:
        proc_stat: Where Linux tells the machine's CPU time.
    """

    def __init__(self, proc_stat: Path = PROC_STAT) -> None:
        self._proc_stat = proc_stat
        self._busy = 0.0
        self._fresh_until = 0.0

    def read(self) -> CpuMoment:
        """Read both.

        Raises:
            SensorError: If the machine's CPU time cannot be read.
        """
        before = time.perf_counter()
        if before >= self._fresh_until:
            self._busy = _linux_busy(self._proc_stat) if _PLATFORM == "linux" else _psutil_busy()
            after = time.perf_counter()
            self._fresh_until = after + _COST_LIMIT * (after - before)
        times = cpu_times()
        return CpuMoment(times.own, times.total, self._busy)


def charge_share(
    whole: Energy, begin: CpuMoment, end: CpuMoment, seconds: float, grade: Grade = "shared"
) -> Energy:
    """Return our part of ``whole``: our CPU time over the CPU time that all processes used.

    The lower end charges us only for the part of all CPUs' time that we used, busy or not; the upper end for
    everything. What is *bounded* stays so, and what is unknown stays unknown.

    Args:
        whole: The energy of the device.
        begin: CPU time when the window opened.
        end: CPU time when it closed.
        seconds: Time between the two.
        grade: The grade of a figure that is not *bounded*.
    """
    if whole.joules is None or whole.low is None:
        return whole
    ours = CpuTimes(end.own, end.total).since(CpuTimes(begin.own, begin.total))
    # The machine's time is counted in coarse ticks, so it can seem to be less than ours.
    busy = max(end.busy - begin.busy, ours)
    capacity = max((os.cpu_count() or 1) * seconds, busy)
    share = ours / busy if busy else 0.0
    least = ours / capacity if capacity else 0.0
    return dataclasses.replace(
        whole,
        joules=whole.joules * share,
        low=whole.low * least,
        idle_joules=None if whole.idle_joules is None else whole.idle_joules * share,
        grade="bounded" if whole.grade == "bounded" else grade,
    )


def charge_whole(whole: Energy, grade: Grade = "shared") -> Energy:
    """Return all of ``whole`` with zero as the lower end: who else uses the device is not known."""
    if whole.joules is None:
        return whole
    return dataclasses.replace(
        whole,
        low=0.0,
        grade="bounded" if whole.grade == "bounded" else grade,
        source=f"{whole.source}; the whole device: whether others use it is not known",
    )


def _linux_busy(proc_stat: Path) -> float:
    """Return the CPU seconds that all processes of the machine have used since it was started."""
    try:
        with proc_stat.open(encoding="ascii", errors="replace") as lines:
            fields = lines.readline().split()
        # user, nice, system, irq, softirq: what is neither idle, nor waiting, nor taken by other guests.
        ticks = sum(int(fields[position]) for position in (1, 2, 3, 6, 7))
    except OSError as error:
        raise SensorError(f"{proc_stat} cannot be read: {error.strerror}") from error
    except (IndexError, ValueError) as error:
        raise SensorError(f"{proc_stat} has no line of CPU time that can be read") from error
    return ticks / os.sysconf("SC_CLK_TCK")


def _psutil_busy() -> float:
    import psutil

    times = psutil.cpu_times()
    return float(times.user + getattr(times, "nice", 0.0) + times.system)
