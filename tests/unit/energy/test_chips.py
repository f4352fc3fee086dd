from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from titan_nb.energy import chips
from titan_nb.energy.chips import EVERY_FAMILY, Cpu, ThreadWatts, clean, eco2ai_table, look_up, this_cpu
from titan_nb.errors import SensorError


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", "xeon e5-2680 v4"),
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", "xeon"),
        ("Intel Xeon Processor (Skylake, IBRS)", "xeon"),
        ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", "core i7-1165g7"),
        ("AMD EPYC", "epyc"),
        ("AMD EPYC-Rome Processor", "epyc"),
        ("AMD EPYC 7302 16-Core Processor", "epyc 7302"),
        ("AMD Ryzen 7 1700 Eight-Core Processor", "ryzen 7 1700"),
        ("AMD Ryzen 5 3400G with Radeon Vega Graphics", "ryzen 5 3400g"),
        ("AMD Ryzen 7 7840U w/ Radeon 780M Graphics", "ryzen 7 7840u"),
        ("AMD Ryzen 7 4700G (OEM Only)", "ryzen 7 4700g"),
        ("", ""),
    ],
)
def test_clean(name: str, cleaned: str) -> None:
    assert clean(name) == cleaned


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    power = tmp_path / "power.csv"
    power.write_text(
        "Model,TDP\nAMD Alpha 1,100.0\nAlpha 2,200\nAMD Alpha 3,60\nIntel Alpha 4,300\n"
        "Alpha 5,n/a\nAlpha 6,0\n"
        "Beta 1,100\nBeta 1 Processor,200\nAlpha 11,9999\nAlpha,5\n",
        encoding="utf-8",
    )
    threads = tmp_path / "threads.csv"
    threads.write_text(
        "# a comment\nname,threads\nAlpha 1,10\nAlpha 2,40\nAlpha 3,20\nBeta 1,10\nGamma 1,2\nAlpha 11,1\n",
        encoding="utf-8",
    )
    return power, threads


def test_a_full_name_is_one_chip(tables: tuple[Path, Path]) -> None:
    assert look_up(Cpu("AMD(R) Alpha 1 @ 2GHz"), *tables) == ThreadWatts(10, 10, 10, 1)


def test_bare_metal_tells_the_threads(tables: tuple[Path, Path]) -> None:
    assert look_up(Cpu("Alpha 4", 30), *tables) == ThreadWatts(10, 10, 10, 1)
    assert look_up(Cpu("Alpha 1", 20), *tables) == ThreadWatts(5, 5, 5, 1)


def test_a_family_gives_its_range_and_the_median_chip(tables: tuple[Path, Path]) -> None:
    # Alpha 1: 10 W, Alpha 2: 5 W, Alpha 3: 3 W, Alpha 11: 9999 W per thread; the row "Alpha" has no threads.
    assert look_up(Cpu("AMD Alpha"), *tables) == ThreadWatts(3, 5, 9999, 4)


def test_a_name_with_two_powers_gives_both(tables: tuple[Path, Path]) -> None:
    assert look_up(Cpu("Beta 1"), *tables) == ThreadWatts(10, 10, 20, 2)


@pytest.mark.parametrize("name", ["Alpha 4", "Alpha 5", "Alpha 6", "Alpha 7 Pro"])
def test_a_chip_that_is_in_no_table_gets_the_range_of_its_family(
    tables: tuple[Path, Path], name: str
) -> None:
    # Alpha 4 has no threads there, 5 and 6 no power, and 7 nothing at all.
    assert look_up(Cpu(name), *tables) == ThreadWatts(3, 5, 9999, 4, "alpha")


def test_a_familys_range_is_of_its_own_threads(tables: tuple[Path, Path]) -> None:
    assert look_up(Cpu("Alpha 7", 1000), *tables) == ThreadWatts(3, 5, 9999, 4, "alpha")


@pytest.mark.parametrize("name", ["Gamma 1", "Delta 9", "Neoverse", ""])
def test_a_chip_of_which_nothing_is_known_gets_the_range_of_all(tables: tuple[Path, Path], name: str) -> None:
    # Gamma 1 has threads but no power. Alpha: 3, 5, 10, 9999 W per thread; Beta 1: 10 and 20.
    assert look_up(Cpu(name), *tables) == ThreadWatts(3, 10, 9999, 6, EVERY_FAMILY)


def test_empty_tables_are_an_error(tables: tuple[Path, Path]) -> None:
    tables[1].write_text("name,threads\n", encoding="utf-8")
    with pytest.raises(SensorError, match="no CPU with known power and threads"):
        look_up(Cpu("Alpha 1"), *tables)


def test_the_real_tables() -> None:
    table = eco2ai_table()
    assert look_up(Cpu("AMD EPYC 7302 16-Core Processor"), table) == ThreadWatts(
        155 / 32, 155 / 32, 155 / 32, 1
    )
    family = look_up(Cpu("AMD EPYC"), table)
    assert family.chips > 40
    assert family.low < family.typical < family.high < 20
    assert "eco2ai" not in sys.modules


def test_without_eco2ai_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stand_in = ModuleType("eco2ai")
    monkeypatch.setitem(sys.modules, "eco2ai", stand_in)  # has no spec
    with pytest.raises(SensorError, match="pip install eco2ai"):
        eco2ai_table()
    monkeypatch.delitem(sys.modules, "eco2ai")
    monkeypatch.setattr(chips.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SensorError, match="not installed"):
        eco2ai_table()


def cpuinfo(folder: Path, flags: str, name: str = "Alpha 1") -> Path:
    path = folder / "cpuinfo"
    path.write_text(
        f"processor : 0\nmodel name : {name}\nflags : {flags}\n\nprocessor : 1\nmodel name : other\n",
        encoding="utf-8",
    )
    return path


def topology(folder: Path, packages: list[str]) -> Path:
    for number, package in enumerate(packages):
        path = folder / f"cpu{number}" / "topology"
        path.mkdir(parents=True)
        (path / "physical_package_id").write_text(package + "\n", encoding="ascii")
    (folder / "cpuidle").mkdir()
    return folder


def test_bare_metal_counts_the_threads_of_one_package(tmp_path: Path) -> None:
    system = topology(tmp_path / "cpu", ["0", "1", "0", "1"])
    assert this_cpu(cpuinfo(tmp_path, "fpu sse"), system) == Cpu("Alpha 1", 2)


def test_a_virtual_machine_tells_no_threads(tmp_path: Path) -> None:
    system = topology(tmp_path / "cpu", ["0", "0"])
    assert this_cpu(cpuinfo(tmp_path, "fpu hypervisor"), system) == Cpu("Alpha 1", None)


def test_uneven_or_unreadable_packages_tell_no_threads(tmp_path: Path) -> None:
    proc = cpuinfo(tmp_path, "fpu")
    assert this_cpu(proc, topology(tmp_path / "a", ["0", "0", "1"])).threads is None
    system = tmp_path / "b"
    (system / "cpu0" / "topology" / "physical_package_id").mkdir(parents=True)
    assert this_cpu(proc, system).threads is None


@pytest.mark.parametrize(("system", "name"), [("nt", "Intel64 Family 6"), ("posix", "")])
def test_without_proc_only_windows_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, name: str
) -> None:
    none, nameless = tmp_path / "none", cpuinfo(tmp_path, "fpu", name="")
    monkeypatch.setattr(chips.platform, "processor", lambda: "Intel64 Family 6")
    monkeypatch.setattr(chips, "_WINDOWS", system == "nt")
    assert this_cpu(none) == Cpu(name, None)
    assert this_cpu(nameless, tmp_path) == Cpu(name, None)
