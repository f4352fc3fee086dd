from __future__ import annotations

import dataclasses
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from titan_nb import audit as module
from titan_nb.audit import Audit
from titan_nb.errors import SettingsError, TitanError
from titan_nb.ledger import Ledger
from titan_nb.records import Carbon, Energy, Gap, MemoryUse, Report

# eco2ai's own code leaves files to the garbage collector, and uses what pandas is about to drop.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def report(ledger: Ledger, joules: float, *, parent: int | None = None, grams: float | None = None) -> Report:
    carbon = None if grams is None else Carbon(grams, grams, grams, 400.0, "DE", "a table", 2024)
    made = Report(
        number=ledger.next_number(),
        cell=None,
        label=None,
        outcome="ok",
        error=None,
        started="2026-01-01T00:00:00.000+00:00",
        seconds=1.0,
        cpu_seconds=1.0,
        energy={"cpu:0": Energy(joules, joules - 1, joules + 1, "measured", "a counter")},
        carbon=carbon,
        memory=MemoryUse({}),
        parent=parent,
    )
    ledger.add(made)
    return made


class FakeTracker:
    """Stands in for eco2ai's tracker."""

    fault: BaseException | None = None
    raises: BaseException | None = None
    total_kwh = 0.001

    def __init__(self, gpu: bool = False) -> None:
        self._cpu = SimpleNamespace(tdp=lambda: 100, cpu_num=lambda: 2, name=lambda: "Some CPU")
        self._gpu = SimpleNamespace(is_gpu_available=gpu, gpu_num=lambda: 8)

    def start(self) -> None:
        if self.raises is not None:
            raise self.raises

    stop = start

    def emission_level(self) -> float:
        return 332.5


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTracker:
    tracker = FakeTracker()
    monkeypatch.setattr(module, "_made", lambda zone: tracker)
    monkeypatch.setattr(shutil, "which", lambda program: f"/usr/bin/{program}")
    return tracker


def test_both_figures_are_of_the_same_stretch(fake: FakeTracker) -> None:
    ledger = Ledger()
    report(ledger, 1000.0)
    audit = Audit(ledger, "DE")
    audit.start()
    outer = report(ledger, 10.0, grams=2.0)
    report(ledger, 5.0, parent=outer.number)
    last = report(ledger, 20.0)
    energy = {"cpu:0": Energy(3.0, 2.0, 4.0, "measured", "a counter")}
    ledger.add_gap(Gap(after=outer.number, before=last.number, seconds=1.0, energy=energy))
    opinion = audit.stop()
    assert opinion.joules == pytest.approx(3600)
    assert opinion.grams == pytest.approx(0.3325)
    assert (opinion.zone, opinion.grams_per_kwh) == ("eco2ai:DE", 332.5)
    assert (opinion.cells.joules, opinion.cells.low, opinion.cells.high) == (30.0, 28.0, 32.0)
    assert opinion.gaps.joules == 3.0
    assert opinion.cell_grams == 2.0


def test_the_reasons_are_those_of_this_machine_and_stretch(fake: FakeTracker) -> None:
    ledger = Ledger()
    audit = Audit(ledger, "de")
    audit.start()
    report(ledger, 1.0)
    reasons = {one.partition(":")[0]: one for one in audit.stop().reasons}
    assert list(reasons) == ["processor", "length", "memory", "time", "devices", "CO2e"]
    assert "100 W for each of 2 package(s) of Some CPU" in reasons["processor"]
    assert reasons["devices"].endswith("no energy of: ram")
    assert "332.5 g/kWh" in reasons["CO2e"]


def test_a_gpu_and_a_long_stretch_change_the_reasons(
    fake: FakeTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake._gpu.is_gpu_available = True
    audit = Audit(Ledger(), "DE")
    audit.start()
    monkeypatch.setattr(audit, "_started", time.perf_counter() - 100)
    reasons = {one.partition(":")[0]: one for one in audit.stop().reasons}
    assert "length" not in reasons
    assert "all 8 GPU(s)" in reasons["GPU"]
    assert reasons["devices"].endswith("no energy of: cpu, ram, gpu")


def test_without_cells_the_ledger_knows_nothing(fake: FakeTracker) -> None:
    audit = Audit(Ledger(), "DE")
    audit.start()
    opinion = audit.stop()
    assert opinion.cells.joules is None
    assert opinion.cell_grams is None


def test_a_failure_of_eco2ai_is_one_line(fake: FakeTracker) -> None:
    audit = Audit(Ledger(), "DE")
    fake.raises = KeyError("brand_raw")
    with pytest.raises(TitanError, match="eco2ai does not work here: KeyError: 'brand_raw'"):
        audit.start()
    fake.raises = None
    audit.start()
    fake.raises = FileNotFoundError("top")
    with pytest.raises(TitanError, match="eco2ai failed: FileNotFoundError: top"):
        audit.stop()
    fake.raises = None
    audit.start()
    fake.fault = FileNotFoundError("top")
    with pytest.raises(TitanError, match="eco2ai failed while it ran: FileNotFoundError: top"):
        audit.stop()


def test_a_machine_without_top_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(TitanError, match="with the program top, which is not installed here"):
        Audit(Ledger(), "DE").start()


@pytest.mark.parametrize(
    ("zone", "region", "code"),
    [
        ("DE", None, "eco2ai:DE"),
        ("germany", None, "eco2ai:DE"),
        ("eco2ai:fr", None, "eco2ai:FR"),
        ("US", "california", "eco2ai:US/California"),
    ],
)
def test_the_zone_is_one_of_eco2ais_table(zone: str, region: str | None, code: str) -> None:
    assert Audit(Ledger(), zone, region).zone.code == code


def test_a_zone_that_eco2ai_does_not_know_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"eco2ai's table has no zone 'eco2ai:US/Kalifornia'; did you mean"
    ):
        Audit(Ledger(), "US", "Kalifornia")
    with pytest.raises(SettingsError, match="has no zone 'eco2ai:'"):
        Audit(Ledger(), "")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    tried: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        tried.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    yield tried
    assert tried == []


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_real_one_runs_here_and_leaves_nothing_behind(
    no_network: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    if shutil.which("top") is None:
        with pytest.raises(TitanError, match="program top"):
            Audit(Ledger(), "DE").start()
        return
    spec = importlib.util.find_spec("eco2ai")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    before = _files(package)
    threads = set(threading.enumerate())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "PERIOD_SECONDS", 1)
    audit = Audit(Ledger(), "DE")
    audit.start()
    end = time.perf_counter() + 3
    while time.perf_counter() < end:
        sum(range(1000))
    opinion = audit.stop()
    assert opinion.joules > 0
    assert opinion.grams == pytest.approx(opinion.joules / 3.6e6 * opinion.grams_per_kwh)
    assert opinion.seconds >= 3
    assert list(tmp_path.iterdir()) == []
    assert _files(package) == before
    assert not [one for one in set(threading.enumerate()) - threads if one.is_alive()]
    assert dataclasses.is_dataclass(opinion)


def test_a_job_of_eco2ai_that_fails_is_kept_and_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What runs in eco2ai's own thread: the original lets its scheduler write a page into the log."""
    tracker = module._made(Audit(Ledger(), "DE").zone)
    tracker._cpu = SimpleNamespace(calculate_consumption=_no_top)
    assert tracker._func_for_sched() == {}
    assert isinstance(tracker.fault, FileNotFoundError)
    assert caplog.records == []


def _no_top() -> Any:
    raise FileNotFoundError("top")


def test_the_stand_in_is_lent_for_the_import_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", _find_none(module.importlib.util.find_spec))
    monkeypatch.delitem(sys.modules, "pkg_resources", raising=False)
    with module._pkg_resources():
        import pkg_resources

        with pkg_resources.resource_stream("titan_nb", "__init__.py") as stream:
            assert b"titan_nb" in stream.read()
        with pytest.raises(ModuleNotFoundError):
            pkg_resources.resource_stream("pkg_resources", "nothing")
    assert "pkg_resources" not in sys.modules


def _find_none(find: Any) -> Any:
    return lambda name: None if name == "pkg_resources" else find(name)


def test_a_pkg_resources_that_is_there_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModuleType("pkg_resources")
    monkeypatch.setitem(sys.modules, "pkg_resources", own)
    with module._pkg_resources():
        assert sys.modules["pkg_resources"] is own
    assert sys.modules["pkg_resources"] is own
