"""CPU packages and their memory by the RAPL counters that Linux shows under powercap."""

from __future__ import annotations

import os
import time
from pathlib import Path

from titan_nb.energy.bracket import bracket
from titan_nb.energy.cpu_time import CpuTimes, cpu_times
from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.host import boot_id
from titan_nb.records import Energy

__all__ = ["PACKAGE_WATTS", "POWERCAP", "RaplSensor", "rapl_sensors"]

POWERCAP = Path("/sys/class/powercap")
PROC_STAT = Path("/proc/stat")

PACKAGE_WATTS = 1000.0
"""Twice the highest rated power in eco2ai's table of CPUs: no package draws more for long."""

TICK_SECONDS = 0.001
"""The registers are updated about every millisecond (Linux, Documentation/hwmon/amd_energy.rst)."""

REMEDY = "sudo chmod -R a+r /sys/class/powercap/intel-rapl*"


def rapl_sensors(root: Path = POWERCAP, proc_stat: Path = PROC_STAT) -> list[RaplSensor]:
    """Return one sensor for each package, and for each memory domain within one.

    Returns:
        The sensors; empty where the machine shows no such counter.

    Raises:
        SensorError: If there are counters, but this user may not read them, or they cannot be read.
    """
    found = {}
    # Only "intel-rapl:", not "intel-rapl-mmio:", which shows the same packages once more.
    for package in sorted(root.glob("intel-rapl:*")):
        label = _text(package / "name")
        if not label.startswith("package"):
            continue  # Subdomains are looked for below; "psys" overlaps with the packages.
        number = label.removeprefix("package-")
        key, name = f"cpu:{boot_id()}:pkg{number}", f"CPU package {number}"
        found[key] = RaplSensor(package, key, name, proc_stat)
        for part in sorted(package.glob("intel-rapl:*")):
            if _text(part / "name") == "dram":
                key, name = f"dram:{boot_id()}:pkg{number}", f"memory of CPU package {number}"
                found[key] = RaplSensor(part, key, name, proc_stat)
    for sensor in found.values():
        sensor.read()
    return list(found.values())


class RaplSensor:
    """One RAPL counter, shared by all processes of the machine.

    What this process is charged is its share of the CPU time that all processes used. The lower end of the
    interval charges it only for the part of all CPUs' time that it used, the upper end for everything.

    The value of a reading is joules since the first read, carried on over the counter's wraps. Its extra
    values are this process's CPU seconds (own, total), the machine's busy CPU seconds, and how often so
    much time passed between two reads that a wrap may have gone unseen.

    Args:
        zone: Folder of the counter under powercap.
        key: Device key.
        name: The device for people.
        proc_stat: Where the machine's CPU time is.
    """

    source = "RAPL counter x share of the machine's CPU time"
    blocking = True
    counter = True

    def __init__(self, zone: Path, key: str, name: str, proc_stat: Path = PROC_STAT) -> None:
        self.key = key
        self.name = name
        self._counter = zone / "energy_uj"
        self._proc_stat = proc_stat
        self._range_uj = _whole_number(zone / "max_energy_range_uj")
        # At PACKAGE_WATTS the counter takes this long from wrap to wrap.
        self._wrap_seconds = self._range_uj * 1e-6 / PACKAGE_WATTS
        self.refresh_seconds: float | None = self._wrap_seconds / 2
        self._last_uj: int | None = None
        self._wrapped_uj = 0
        self._last_at = 0.0
        self._doubts = 0

    def read(self) -> Reading:
        """Read the counter, this process's CPU time and the machine's.

        Raises:
            SensorError: If the counter cannot be read.
        """
        before = time.perf_counter()
        now_uj = _whole_number(self._counter)
        at = (before + time.perf_counter()) / 2
        if self._last_uj is not None:
            if now_uj < self._last_uj:
                self._wrapped_uj += self._range_uj
            if at - self._last_at > self._wrap_seconds:
                self._doubts += 1
        self._last_uj, self._last_at = now_uj, at
        times = cpu_times()
        extra = (times.own, times.total, _busy_seconds(self._proc_stat), float(self._doubts))
        return Reading(at, (now_uj + self._wrapped_uj) * 1e-6, extra)

    def energy(self, begin: Reading, end: Reading, started: float, ended: float) -> Energy:
        """Return this process's share of the counter."""
        own_begin, total_begin, busy_begin, doubts_begin = begin.extra
        own_end, total_end, busy_end, doubts_end = end.extra
        if doubts_begin != doubts_end:
            return Energy.unknown("not read for so long that the counter may have wrapped unseen")
        whole = bracket(
            begin,
            end,
            started,
            ended,
            limit_watts=PACKAGE_WATTS,
            tick_seconds=TICK_SECONDS,
            source=self.source,
        )
        ours = CpuTimes(own_end, total_end).since(CpuTimes(own_begin, total_begin))
        # The machine's time is counted in coarse ticks, so it can seem to be less than ours.
        busy = max(busy_end - busy_begin, ours)
        capacity = max((os.cpu_count() or 1) * (end.at - begin.at), busy)
        share = ours / busy if busy else 0.0
        least = ours / capacity if capacity else 0.0
        joules, low, high = whole.joules or 0.0, whole.low or 0.0, whole.high or 0.0
        return Energy(joules * share, low * least, high, "shared", self.source)

    def close(self) -> None:
        """Do nothing: no file is kept open."""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except PermissionError as error:
        raise SensorError(f"this user may not read {path}", REMEDY) from error
    except OSError as error:
        raise SensorError(f"{path} cannot be read: {error.strerror}") from error


def _whole_number(path: Path) -> int:
    text = _text(path)
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < 0:
        raise SensorError(f"{path} holds {text[:40]!r}, which is no count of energy")
    return number


def _busy_seconds(proc_stat: Path) -> float:
    """Return the CPU seconds that all processes of the machine have used since it was started."""
    fields = _text(proc_stat).partition("\n")[0].split()
    try:
        # user, nice, system, irq, softirq: what is neither idle, nor waiting, nor taken by other guests.
        ticks = sum(int(fields[position]) for position in (1, 2, 3, 6, 7))
    except (IndexError, ValueError) as error:
        raise SensorError(f"{proc_stat} has no line of CPU time that can be read") from error
    return ticks / os.sysconf("SC_CLK_TCK")
