"""A report as one flat row of plain values, with the unit in each column's name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from titan_nb.records import DeviceMemory, Report

__all__ = ["COLUMNS", "row", "rows"]

COLUMNS = (
    "number",
    "cell",
    "execution_count",
    "label",
    "outcome",
    "error",
    "started",
    "seconds",
    "cpu_seconds",
    "energy_joules",
    "energy_low_joules",
    "energy_high_joules",
    "energy_idle_joules",
    "energy_grade",
    "energy_unknown",
    "co2e_grams",
    "co2e_low_grams",
    "co2e_high_grams",
    "grams_per_kwh",
    "zone",
    "carbon_source",
    "carbon_year",
    "carbon_kind",
    "pue",
    "cost",
    "cost_low",
    "cost_high",
    "cost_currency",
    "cost_source",
    "gpu_peak_bytes",
    "gpu_kept_bytes",
    "ram_peak_bytes",
    "ram_kept_bytes",
    "parent",
    "shared_window",
)
"""Names of the columns.

``energy_unknown`` lists the keys of the devices that are missing from the sum, ``energy_idle_joules`` is over
the devices whose idle power is known. ``pue`` is in the grams already; ``cost`` is in ``cost_currency``.
"""


def row(report: Report) -> dict[str, Any]:
    """Return ``report`` as one flat dict with the keys of `COLUMNS`; what is unknown is None.

    Peaks of several GPUs are added up, though they need not have come at the same moment.
    """
    total, carbon, cost, cell = report.total, report.carbon, report.cost, report.cell
    gpus, ram = _memory(report, "gpu"), _memory(report, "ram")
    unknown = [key for key, part in report.energy.items() if part.joules is None]
    return {
        "number": report.number,
        "cell": None if cell is None else cell.number,
        "execution_count": None if cell is None else cell.execution_count,
        "label": report.label,
        "outcome": report.outcome,
        "error": report.error,
        "started": report.started,
        "seconds": report.seconds,
        "cpu_seconds": report.cpu_seconds,
        "energy_joules": total.joules,
        "energy_low_joules": total.low,
        "energy_high_joules": total.high,
        "energy_idle_joules": total.idle_joules,
        "energy_grade": total.grade,
        "energy_unknown": ", ".join(unknown),
        "co2e_grams": None if carbon is None else carbon.grams,
        "co2e_low_grams": None if carbon is None else carbon.low,
        "co2e_high_grams": None if carbon is None else carbon.high,
        "grams_per_kwh": None if carbon is None else carbon.grams_per_kwh,
        "zone": None if carbon is None else carbon.zone,
        "carbon_source": None if carbon is None else carbon.source,
        "carbon_year": None if carbon is None else carbon.year,
        "carbon_kind": None if carbon is None else carbon.kind,
        "pue": None if carbon is None else carbon.pue,
        "cost": None if cost is None else cost.amount,
        "cost_low": None if cost is None else cost.low,
        "cost_high": None if cost is None else cost.high,
        "cost_currency": None if cost is None else cost.currency,
        "cost_source": None if cost is None else cost.source,
        "gpu_peak_bytes": sum(part.peak_bytes for part in gpus) if gpus else None,
        "gpu_kept_bytes": sum(part.kept_bytes for part in gpus) if gpus else None,
        "ram_peak_bytes": sum(part.peak_bytes for part in ram) if ram else None,
        "ram_kept_bytes": sum(part.kept_bytes for part in ram) if ram else None,
        "parent": report.parent,
        "shared_window": report.shared_window,
    }


def rows(reports: Iterable[Report]) -> list[dict[str, Any]]:
    """Return one flat dict per report; see `row`."""
    return [row(report) for report in reports]


def _memory(report: Report, first: str) -> list[DeviceMemory]:
    return [part for key, part in report.memory.devices.items() if key.partition(":")[0] == first]
