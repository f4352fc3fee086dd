"""How many watts one hardware thread of this machine's CPU is rated at, as far as its name tells.

Two tables are joined by the chip's name: eco2ai's ``data/cpu_names.csv`` (thermal design power), read
without importing that package, and ``tables/cpu_threads.csv`` (hardware threads).
"""

from __future__ import annotations

import csv
import importlib.util
import itertools
import os
import platform
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from titan_nb.errors import SensorError

__all__ = ["EVERY_FAMILY", "Cpu", "ThreadWatts", "clean", "eco2ai_table", "look_up", "this_cpu"]

_WINDOWS = os.name == "nt"
THREADS_TABLE = Path(__file__).parent / "tables" / "cpu_threads.csv"

EVERY_FAMILY = "every family"
"""Stands for the family of a chip of which nothing is known but that it is one."""

# What a kernel or a table adds to the name of a chip.
_NOISE = (
    re.compile(r"\((?:r|tm|c)\)|[®™]", re.IGNORECASE),
    re.compile(r"\([^)]*\)"),  # a hypervisor's remark: "(Skylake, IBRS)"
    re.compile(r"@.*"),
    re.compile(r"\b(?:with|w/) .*"),  # the graphics beside it
    re.compile(r"^\d+th gen\b"),
    re.compile(r"\b(?:amd|intel)\b"),
    re.compile(r"\b(?:\d+|dual|triple|quad|six|eight|twelve|sixteen)-core processor\b"),
    re.compile(r"\b(?:cpu|processor|apu|mobile)\b"),
)


@dataclass(frozen=True, slots=True)
class Cpu:
    """What this machine says about its CPU.

    Attributes:
        name: The chip's name; empty when the machine does not tell it.
        threads: Hardware threads of one chip where the machine shows its bare metal; None in a virtual
            machine, whose CPUs say nothing about the chip below.
    """

    name: str
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class ThreadWatts:
    """Thermal design power of one hardware thread, in watts.

    Attributes:
        low: The lowest among the chips that the name fits.
        typical: That of the median chip.
        high: The highest.
        chips: How many chips the name fits; one when it is certain.
        family: The beginning of the name that fits them, where the whole name fits none; empty as a rule.
            `EVERY_FAMILY` where no beginning fits any.
    """

    low: float
    typical: float
    high: float
    chips: int
    family: str = ""


def clean(name: str) -> str:
    """Return the name of a chip as both tables can spell it.

    ``Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz`` becomes ``xeon e5-2680 v4``; ``AMD EPYC`` becomes ``epyc``.
    """
    text = name.lower()
    for noise in _NOISE:
        text = noise.sub(" ", text)
    text = " ".join(text.split())
    # Hypervisors append the generation to a nameless chip: "AMD EPYC-Rome Processor".
    return text if re.search(r"\d", text) else text.partition("-")[0]


def this_cpu(proc: Path = Path("/proc/cpuinfo"), system: Path = Path("/sys/devices/system/cpu")) -> Cpu:
    """Return what this machine says about its CPU."""
    name, virtual = "", True
    try:
        with proc.open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                field, _, value = line.partition(":")
                if field.strip() == "model name":
                    name = value.strip()
                elif field.strip() == "flags":
                    virtual = "hypervisor" in value.split()
                elif not line.strip():
                    break  # The first CPU says it all, and there may be hundreds.
    except OSError:
        pass  # No such file on this platform.
    # Elsewhere than on Windows, `platform.processor` asks a child process, which may only tell the make.
    name = name or (platform.processor() if _WINDOWS else "")
    return Cpu(name, None if virtual else _threads_per_package(system))


def _threads_per_package(system: Path) -> int | None:
    paths = system.glob("cpu[0-9]*/topology/physical_package_id")
    try:
        counts = set(Counter(path.read_text(encoding="ascii").strip() for path in paths).values())
    except OSError:
        return None
    return counts.pop() if len(counts) == 1 else None


def eco2ai_table() -> Path:
    """Return the path of eco2ai's table of CPUs, found without running the package.

    Raises:
        SensorError: If eco2ai is not installed.
    """
    try:
        found = importlib.util.find_spec("eco2ai")
    except ValueError:  # a stand-in without a spec is in sys.modules
        found = None
    folders = found.submodule_search_locations if found else None
    for folder in folders or ():
        table = Path(folder) / "data" / "cpu_names.csv"
        if table.is_file():
            return table
    raise SensorError("eco2ai's table of CPUs is not installed", "pip install eco2ai")


def look_up(cpu: Cpu, tdp_table: Path, threads_table: Path = THREADS_TABLE) -> ThreadWatts:
    """Return the rated watts per hardware thread of the chips that the name of ``cpu`` fits.

    A full name fits one chip; a name such as ``AMD EPYC`` fits all chips that begin with it, and stands in
    for a chip whose power or thread count is in neither table. Such chips are left out of a family's range.
    A chip of an unknown family, or without a name, gets the range of all chips.

    Raises:
        SensorError: If the tables hold no chip with known power and threads.
    """
    wanted = clean(cpu.name)
    brand = wanted.partition(" ")[0]
    watts, family = [], EVERY_FAMILY
    if brand:
        powers = _column(tdp_table, "Model", "TDP", brand)
        threads = _column(threads_table, "name", "threads", brand)
        watts, family = _of_chip(wanted, powers, threads, cpu.threads), ""
        if not watts:
            # The words before the first number: a narrower range might not hold a chip that came later.
            family = " ".join(itertools.takewhile(str.isalpha, wanted.split()))
            watts = _of_family(family, powers, threads)
    if not watts or (family and len(watts) < 2):
        powers, threads = (
            _column(tdp_table, "Model", "TDP", ""),
            _column(threads_table, "name", "threads", ""),
        )
        watts, family = _of_family("", powers, threads), EVERY_FAMILY
    if not watts:
        raise SensorError("the tables hold no CPU with known power and threads", "pip install -U eco2ai")
    return ThreadWatts(watts[0], statistics.median_low(watts), watts[-1], len(watts), family)


_Table = Mapping[str, Collection[float]]


def _of_chip(name: str, powers: _Table, threads: _Table, known: int | None) -> list[float]:
    """Return, in order, the watts per thread of the chip of that name, or of its family if it is one's."""
    # A name without a number ("xeon") is that of a family, even where a table has a row of that name.
    if re.search(r"\d", name) is None or not (name in powers or name in threads):
        return _of_family(name, powers, threads)
    counts = (known,) if known else threads.get(name, ())
    return sorted(power / count for power in powers.get(name, ()) for count in counts)


def _of_family(family: str, powers: _Table, threads: _Table) -> list[float]:
    """Return, in order, the watts per thread of the chips whose name begins with ``family``; all for none."""
    names = [name for name in powers if not family or f"{name} ".startswith(f"{family} ")]
    return sorted(
        power / count for name in names for power in powers[name] for count in threads.get(name, ())
    )


def _column(table: Path, name_field: str, value_field: str, brand: str) -> dict[str, set[float]]:
    """Return the values of the chips whose cleaned name begins with the word ``brand``; all for none."""
    found: dict[str, set[float]] = defaultdict(set)
    with table.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(_without_comments(lines)):
            raw = row[name_field]
            if brand not in raw.lower():
                continue  # Cleaning is the slow part, and most names are of other makes.
            name = clean(raw)
            if not brand or name.partition(" ")[0] == brand:
                try:
                    value = float(row[value_field])
                except (TypeError, ValueError):
                    continue
                if value > 0:
                    found[name].add(value)
    return dict(found)


def _without_comments(lines: Iterable[str]) -> Iterator[str]:
    return (line for line in lines if not line.startswith("#"))
