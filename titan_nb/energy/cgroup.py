"""How much CPU this process may use: the limits of its container, by Linux's control groups."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from titan_nb.control_groups import control_groups, lines_of

__all__ = ["CpuLimits", "cpu_limits"]


@dataclass(frozen=True, slots=True)
class CpuLimits:
    """How much CPU this process and its children may use.

    Attributes:
        machine_cpus: CPUs that the machine shows.
        allowed_cpus: How many of them they may run on.
        quota_cpus: Their CPU time per time, as a number of CPUs; None without such a limit.
    """

    machine_cpus: int
    allowed_cpus: int
    quota_cpus: float | None = None

    def __str__(self) -> str:
        """Say what is limited; empty when nothing is."""
        parts = []
        if self.allowed_cpus < self.machine_cpus:
            parts.append(f"{self.allowed_cpus} of {self.machine_cpus} CPUs")
        if self.quota_cpus is not None and self.quota_cpus < self.allowed_cpus:
            parts.append(f"the time of {self.quota_cpus:.3g} CPUs")
        return f"limited to {' and '.join(parts)}" if parts else ""


def cpu_limits(proc: Path = Path("/proc/self"), cpus: int | None = None) -> CpuLimits:
    """Return the limits of this process; without control groups, those of the machine alone.

    Both layouts are read: version 2 (``cpu.max``, ``cpuset.cpus.effective``) and version 1
    (``cpu.cfs_quota_us`` over ``cpu.cfs_period_us``, ``cpuset.effective_cpus``). A group is bound by the
    groups above it as well.
    Source: Linux, Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/cpusets.rst, scheduler/sched-bwc.rst.

    Args:
        proc: Where Linux tells about this process.
        cpus: CPUs of the machine; counted by default.
    """
    machine = cpus or os.cpu_count() or 1
    quotas: list[float] = []
    sets = [machine]
    for group in control_groups(("cpu", "cpuset"), proc):
        quotas += _quota(group)
        sets += _cpuset(group)
    return CpuLimits(machine, max(1, min(sets)), min(quotas, default=None))


def _quota(group: Path) -> list[float]:
    words = _words(group / "cpu.max")
    if not words:
        words = _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
    try:
        quota, period = float(words[0]), float(words[1])
    except (IndexError, ValueError):  # "max": no limit
        return []
    return [quota / period] if quota > 0 and period > 0 else []


def _cpuset(group: Path) -> list[int]:
    for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
        try:
            count = sum(map(_length, " ".join(_words(group / name)).split(",")))
        except ValueError:
            continue  # no such file, or an empty one, which leaves the set to the group above
        return [count]
    return []


def _length(span: str) -> int:
    first, _, last = span.partition("-")
    return int(last or first) - int(first) + 1


def _words(path: Path) -> list[str]:
    return " ".join(lines_of(path)).split()
