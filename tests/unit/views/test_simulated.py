from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from titan_nb.records import Carbon, CellRef, Cost, MemoryUse, Report
from titan_nb.views.simulated import simulated
from titan_nb.views.text import line

Make = Callable[..., Report]


def test_line_is_fixed_and_says_simulated(make: Make) -> None:
    assert line(simulated(make())) == (
        "cell 7 · 12.0 s · 1.29 kJ (1.25–1.34, measured GPU, modelled CPU) · 0.148 g CO2e (DE 2024) · "
        "GPU peak 3.0 GiB, +1.0 kept · RAM peak 2.5 GiB · simulated"
    )


def test_what_was_measured_makes_no_difference(make: Make) -> None:
    other = make(
        cell=CellRef(7, 1, None),
        started="2031-01-01T00:00:00+00:00",
        seconds=1.0,
        cpu_seconds=99.0,
        energy={},
        memory=MemoryUse({}),
        notes=("GPU 3 took 4 J",),
        shared_window=True,
        budget="stopped: 5.2 kJ of 5 kJ",
        cost=Cost(0.1, 0.1, 0.1, "EUR", "a price"),
    )
    assert simulated(other) == simulated(make())


def test_what_the_user_did_is_kept(make: Make) -> None:
    report = simulated(
        make(number=4, label="fit", outcome="error", error="ValueError", parent=2, chat="stored 3 rows")
    )
    assert (report.number, report.label, report.outcome, report.error, report.parent, report.chat) == (
        4,
        "fit",
        "error",
        "ValueError",
        2,
        "stored 3 rows",
    )
    assert report.cell == CellRef(7)
    assert simulated(make(cell=None)).cell is None


def test_grams_follow_from_the_fixed_joules(make: Make) -> None:
    carbon = simulated(make(carbon=Carbon(9.0, 9.0, 9.0, 360.0, "FR", "s", 2023))).carbon
    assert carbon is not None
    assert carbon.grams == pytest.approx(1292.0 * 360.0 / 3.6e6)
    assert (carbon.low, carbon.high) == pytest.approx((1252.0 * 1e-4, 1332.0 * 1e-4))
    assert (carbon.zone, carbon.source, carbon.year, carbon.grams_per_kwh) == ("FR", "s", 2023, 360.0)
    assert simulated(make(carbon=None)).carbon is None
    twice = simulated(make(carbon=Carbon(9.0, 9.0, 9.0, 360.0, "FR", "s", 2023, pue=2.0))).carbon
    assert twice is not None
    assert twice.grams == pytest.approx(2 * carbon.grams)


def test_every_source_says_simulated(make: Make) -> None:
    report = simulated(make())
    sources = [part.source for part in (*report.energy.values(), *report.memory.devices.values())]
    assert sources
    assert all("simulated" in source for source in sources)


def test_twice_is_once_and_survives_json(make: Make) -> None:
    report = simulated(make())
    assert simulated(report) == report
    assert Report.from_dict(report.to_dict()) == report
    assert dataclasses.replace(report) == report
