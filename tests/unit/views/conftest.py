from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from titan_nb.ledger import Totals
from titan_nb.records import Carbon, CellRef, DeviceMemory, Energy, Gap, MemoryUse, Report

GIB = 2**30
GPU = "gpu:GPU-8f3a1c2d-1111-2222-3333-444455556666"
OTHER_GPU = "gpu:GPU-77777777-1111-2222-3333-444455556666"
CPU = "cpu-process:boot:4242:99"
RAM = "ram:boot:4242:99"


def _report(**changes: Any) -> Report:
    values: dict[str, Any] = {
        "number": 7,
        "cell": CellRef(7, 7, "a-cell-id"),
        "label": None,
        "outcome": "ok",
        "error": None,
        "started": "2025-03-04T10:11:12.345+00:00",
        "seconds": 12.34,
        "cpu_seconds": 13.9,
        "energy": {
            GPU: Energy(1700.0, 1670.0, 1730.0, "measured", "a counter"),
            CPU: Energy(138.0, 118.0, 168.0, "modelled", "a CPU model"),
            RAM: Energy(2.0, 2.0, 2.0, "modelled", "a RAM model"),
        },
        "carbon": Carbon(0.21, 0.20, 0.22, 411.0, "DE", "a table", 2024),
        "memory": MemoryUse(
            {
                GPU: DeviceMemory(GIB, int(6.2 * GIB), int(2.1 * GIB), "exact", "an allocator"),
                RAM: DeviceMemory(GIB, int(2.1 * GIB), int(1.5 * GIB), "exact", "VmHWM"),
            }
        ),
    }
    return Report(**{**values, **changes})


@pytest.fixture
def make() -> Callable[..., Report]:
    """Return a function that makes a report of one GPU, with changes."""
    return _report


@pytest.fixture
def one_cpu() -> Report:
    """Return the report of a machine without a GPU and without a zone."""
    return _report(
        energy={
            CPU: Energy(138.0, 118.0, 168.0, "modelled", "CPU seconds x TDP / threads: 12 chips match"),
            RAM: Energy(2.0, 2.0, 2.0, "modelled", "eco2ai RAM model, 0.375 W/GB"),
        },
        carbon=None,
        memory=MemoryUse({RAM: DeviceMemory(GIB, int(2.1 * GIB), int(1.5 * GIB), "exact", "VmHWM")}),
        notes=("CO2e unknown: no zone set (between 1.0 mg and 32 mg); set one with --zone",),
    )


@pytest.fixture
def session() -> list[Report]:
    """Return seven reports, one of each kind."""
    return [
        _report(number=1, cell=CellRef(1, 1)),
        _report(number=2, cell=CellRef(2, 2), label="fit the model", chat="stored 3 rows under 'demo'"),
        _report(
            number=3,
            cell=CellRef(3, 3),
            outcome="error",
            error="ValueError",
            energy={GPU: Energy(1.2, 0.0, 3.04, "bounded", "shorter than a tick")},
            carbon=Carbon(0.0001, 0.0, 0.0003, 411.0, "DE", "a table", 2024),
        ),
        _report(number=4, cell=CellRef(4, 4), outcome="interrupted", seconds=3725.0, carbon=None),
        _report(
            number=5,
            cell=CellRef(5, 5),
            energy={
                GPU: Energy(1700.0, 1670.0, 1730.0, "measured", "a counter"),
                CPU: Energy.unknown("no chip matches"),
            },
        ),
        _report(number=6, cell=CellRef(6, 6), energy={CPU: Energy.unknown("no chip matches")}, carbon=None),
        _report(number=7, cell=None, label="inner", parent=6),
    ]


@pytest.fixture
def totals(session: list[Report]) -> Totals:
    """Return the sums over `session`, with one gap."""
    sums = Totals()
    for report in session:
        if report.parent is None:
            sums = sums.with_report(report)
    return sums.with_gap(Gap(1, 2, 3.0, {GPU: Energy(40.0, 35.0, 45.0, "measured", "a counter")}))
