"""CPU packages and their memory by the RAPL counters that Linux shows under powercap."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from titan_nb.energy.cpu_share import PROC_STAT, CpuMoment, MachineCpu, charge_share
from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.host import boot_id
from titan_nb.records import Energy

__all__ = ["PACKAGE_WATTS", "POWERCAP", "REMEDY", "RaplSensor", "Zone", "rapl_sensors", "rapl_zones"]

POWERCAP = Path("/sys/class/powercap")

PACKAGE_WATTS = 1000.0
"""Twice the highest rated power in eco2ai's table of CPUs: no package draws more for long."""

REMEDY = "sudo chmod -R a+r /sys/class/powercap/intel-rapl*"

_HIDDEN_REMEDY = "start it with: docker run --security-opt systempaths=unconfined"

_DIE = re.compile(r"-die-\d+$")
_LIMITS = ("max_power_uw", "power_limit_uw")
# What a counter may gain between two reads beyond PACKAGE_WATTS: its own granularity, and a late clock.
_SLACK_JOULES = 1.0


class Zone(NamedTuple):
    """One counter that the machine shows.

    Attributes:
        folder: Where it is under powercap.
        key: Device key.
        name: The device for people.
    """

    folder: Path
    key: str
    name: str


def rapl_zones(root: Path = POWERCAP) -> list[Zone]:
    """Return the counters that the machine shows, whether or not they may be read.

    They are the CPU packages and the memory beside each; where there is no package, the whole platform
    (*psys*), which overlaps with the packages. AMD's processors are shown under the same names as Intel's.
    Zones of the same name are the same package, shown twice.

    Raises:
        SensorError: If the names of the counters cannot be read.
    """
    boot = boot_id()
    packages: dict[str, Zone] = {}
    platforms: dict[str, Zone] = {}
    # Only "intel-rapl:", not "intel-rapl-mmio:", which shows the same packages once more.
    for folder in sorted(root.glob("intel-rapl:*")):
        if not folder.exists():  # a link to what is not there
            raise SensorError("the RAPL counters are hidden from this container", _HIDDEN_REMEDY)
        label = _text(folder / "name")
        if label == "psys":
            platforms.setdefault(label, Zone(folder, f"cpu:{boot}:psys", "whole platform"))
        elif label.startswith("package") and label not in packages:
            number = label.removeprefix("package-")
            packages[label] = Zone(folder, f"cpu:{boot}:pkg{number}", f"CPU package {number}")
            for part in sorted(folder.glob("intel-rapl:*")):
                if _text(part / "name") == "dram":
                    name = f"memory of CPU package {number}"
                    packages[f"{label} dram"] = Zone(part, f"dram:{boot}:pkg{number}", name)
    return list((packages or platforms).values())


def rapl_sensors(root: Path = POWERCAP, proc_stat: Path = PROC_STAT) -> list[RaplSensor]:
    """Return one sensor for each of the `rapl_zones`, less dies that mirror another one.

    Returns:
        The sensors; empty where the machine shows no such counter.

    Raises:
        SensorError: If there are counters, but this user may not read them, or they cannot be read.
    """
    machine = MachineCpu(proc_stat)
    sensors = [RaplSensor(zone, machine) for zone in rapl_zones(root)]
    for sensor in sensors:
        sensor.read()
    return _without_mirrors(sensors)


def _without_mirrors(sensors: Sequence[RaplSensor]) -> list[RaplSensor]:
    """Leave out dies that show the counter of their whole package, as those of some AMD processors do."""
    kept: list[RaplSensor] = []
    for sensor in sensors:
        twins = [other for other in kept if _DIE.sub("", other.key) == _DIE.sub("", sensor.key)]
        if not any(_mirrors(other, sensor) for other in twins):
            kept.append(sensor)
    return kept


def _mirrors(one: RaplSensor, other: RaplSensor) -> bool:
    """Return whether the two are one counter: read in turn, their values never cross."""
    # A second look, because the counter may wrap during the first one.
    return any(one.raw_uj() <= other.raw_uj() <= one.raw_uj() for _ in range(2))


class RaplSensor:
    """One RAPL counter, shared by all processes of the machine.

    What this process is charged is its share of the CPU time that all processes used; see `charge_share`.

    The value of a reading is joules since the first read, carried on over the counter's wraps. Its extra
    values are those of a `CpuMoment`, and how often the counter cannot be trusted since the last read: so
    much time had passed that it may have wrapped unseen, or it gained more than a package can draw, as it
    does when the machine was suspended and the counter began anew.

    Args:
        zone: The counter.
        machine: The CPU time of the machine.
    """

    source = "RAPL counter x share of the machine's CPU time"
    blocking = True
    counter = True
    duty = 1.0

    def __init__(self, zone: Zone, machine: MachineCpu) -> None:
        self.key = zone.key
        self.name = zone.name
        self.limit_watts = _limit_watts(zone.folder)
        self._counter = zone.folder / "energy_uj"
        self._machine = machine
        self._range_uj = _whole_number(zone.folder / "max_energy_range_uj")
        # At PACKAGE_WATTS the counter takes this long from wrap to wrap.
        self._wrap_seconds = self._range_uj * 1e-6 / PACKAGE_WATTS
        self.refresh_seconds: float | None = self._wrap_seconds / 2
        self._last: tuple[float, int] | None = None
        self._gained_uj = 0
        self._doubts = 0

    def raw_uj(self) -> int:
        """Return what the counter shows, in microjoules.

        Raises:
            SensorError: If it cannot be read.
        """
        return _whole_number(self._counter)

    def read(self) -> Reading:
        """Read the counter, this process's CPU time and the machine's.

        Raises:
            SensorError: If the counter cannot be read.
        """
        before = time.perf_counter()
        now_uj = self.raw_uj()
        after = time.perf_counter()
        if self._last is not None:
            last_at, last_uj = self._last
            self._add(now_uj - last_uj, after - last_at)
        self._last = before, now_uj
        extra = (*self._machine.read(), float(self._doubts))
        return Reading((before + after) / 2, self._gained_uj * 1e-6, extra, (after - before) / 2)

    def _add(self, gained_uj: int, seconds: float) -> None:
        if gained_uj < 0:
            gained_uj += self._range_uj
        possible = 0 <= gained_uj * 1e-6 <= PACKAGE_WATTS * seconds + _SLACK_JOULES
        if possible:
            self._gained_uj += gained_uj
        if not possible or seconds > self._wrap_seconds:
            self._doubts += 1

    def watts_now(self) -> float | None:
        """Return None: the counter tells energy alone."""
        return None

    def ours(self, whole: Energy, begin: Reading, end: Reading) -> Energy:
        """Return this process's share of the counter."""
        if begin.extra[3] != end.extra[3]:
            return Energy.unknown("the counter may have wrapped unseen, or begun anew, during this time")
        moments = CpuMoment(*begin.extra[:3]), CpuMoment(*end.extra[:3])
        return charge_share(whole, *moments, end.at - begin.at)

    def close(self) -> None:
        """Do nothing: no file is kept open."""


def _limit_watts(folder: Path) -> float:
    """Return the most that the zone may draw, where it tells a limit for short times; `PACKAGE_WATTS` else.

    A limit for long times alone (the thermal design power) is exceeded for seconds.
    """
    limits_uw, short = [0], False
    try:
        for path in folder.glob("constraint_*_name"):
            short |= _text(path) in ("short_term", "peak_power")
            values = (path.with_name(path.name.removesuffix("name") + which) for which in _LIMITS)
            limits_uw += [_whole_number(value) for value in values if value.exists()]
    except SensorError:
        return PACKAGE_WATTS
    watts = max(limits_uw) * 1e-6
    return min(watts, PACKAGE_WATTS) if short and watts > 0 else PACKAGE_WATTS


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
