"""From measured cells to errors, coverage and goals; pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["LENGTHS", "error", "goals", "length_text", "summaries", "summary"]

LENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Of the cells, in seconds."""

_ERROR_LIMITS = {0.1: 0.01, 1.0: 0.002}
_WIDTH_LIMITS = {1.0: 0.20, 10.0: 0.02}
_COVERAGE_LIMIT = 0.95
_ON_LIMIT_MS = 0.5
_IDLE_LIMIT = 0.002
_OPEN_LIMIT = 0.01

Cell = Mapping[str, Any]
Goal = dict[str, Any]


def length_text(seconds: float) -> str:
    """Return a length as people write it."""
    return f"{seconds * 1000:g} ms" if seconds < 1 else f"{seconds:g} s"


def error(cell: Cell, key: str = "joules", *, lenient: bool = False) -> float | None:
    """Return the error of a figure as a part of the truth; None where the figure is unknown.

    Args:
        cell: What is true and what was found.
        key: Which figure.
        lenient: Compare with ``outer_joules``, in which is what the device drew while the tool itself began
            and ended, where that is nearer.
    """
    figure, true = cell[key], cell["true_joules"]
    if figure is None:
        return None
    truths = (true, cell["outer_joules"]) if lenient else (true,)
    return float(min(((figure - one) / one for one in truths), key=abs))


def summary(cells: Sequence[Cell], key: str = "joules", *, lenient: bool = False) -> dict[str, Any]:
    """Return the figures of cells of one length.

    Errors and widths are parts of the true energy; *bias* is the mean error. A cell whose figure is unknown
    has no error, and its interval does not cover the truth.

    Args:
        cells: At least one cell, with ``low`` and ``high`` where the tool gives an interval.
        key: Which figure.
        lenient: See `error`.
    """
    found = [one for cell in cells if (one := error(cell, key, lenient=lenient)) is not None]
    sizes = [abs(one) for one in found]
    result: dict[str, Any] = {
        "cells": len(cells),
        "unknown": len(cells) - len(found),
        "zeros": sum(cell[key] == 0 for cell in cells),
        "median_error": statistics.median(sizes) if sizes else None,
        "p90_error": _most_of(sizes),
        "bias": statistics.mean(found) if found else None,
    }
    if key == "joules" and "low" in cells[0]:
        known = [cell for cell in cells if cell["low"] is not None]
        inside = sum(cell["low"] <= cell["true_joules"] <= cell["high"] for cell in known)
        widths = [(cell["high"] - cell["low"]) / cell["true_joules"] for cell in known]
        result["coverage"] = inside / len(cells)
        result["median_width"] = statistics.median(widths) if widths else None
        result["late_seconds"] = statistics.median(cell["late_seconds"] for cell in cells)
        result["most_late_seconds"] = max(cell["late_seconds"] for cell in cells)
    return result


def summaries(
    cells: Sequence[Cell], key: str = "joules", *, lenient: bool = False
) -> dict[float, dict[str, Any]]:
    """Return a `summary` for each length of cell, shortest first."""
    lengths = sorted({cell["seconds"] for cell in cells})
    return {
        seconds: summary([cell for cell in cells if cell["seconds"] == seconds], key, lenient=lenient)
        for seconds in lengths
    }


def goals(results: Mapping[str, Any]) -> list[Goal]:
    """Return each goal with its figure, its limit, and whether it is met (None: not tried in this run)."""
    accuracy, coverage, cpu, idle = (results[key] for key in ("accuracy", "coverage", "cpu", "idle"))
    whole = accuracy["integrating"]["titan"]
    found = []
    for seconds, limit in _ERROR_LIMITS.items():
        figures, cell = whole.get(seconds, {}), length_text(seconds)
        bias = figures.get("bias")
        found.append(_at_most(f"median error at {cell}", figures.get("median_error"), limit, "%"))
        found.append(_at_most(f"bias at {cell}", None if bias is None else abs(bias), limit, "%"))
    tables = [*(kind["titan"] for kind in accuracy.values()), *coverage.values()]
    zeros = sum(figures["zeros"] for table in tables for figures in table.values())
    unknown = sum(figures["unknown"] for table in tables for figures in table.values())
    found.append(_at_most("busy cells that read 0 J, of all", zeros, 0, ""))
    found.append(_at_most("busy cells that are unknown, of all", unknown, 0, ""))
    for kind, table in coverage.items():
        for seconds in LENGTHS:
            value = table.get(seconds, {}).get("coverage")
            name = f"coverage at {length_text(seconds)}, {kind} counter"
            goal = _at_most(name, value, _COVERAGE_LIMIT, "%")
            met = None if value is None else value >= _COVERAGE_LIMIT
            found.append(goal | {"least": True, "met": met})
    for kind, table in coverage.items():
        for seconds, limit in _WIDTH_LIMITS.items():
            name = f"median width at {length_text(seconds)}, {kind} counter"
            found.append(_at_most(name, table.get(seconds, {}).get("median_width"), limit, "%"))
    on = cpu["titan"]["%titan on"]["over_plain_ms"]["median"]
    found.append(_at_most("CPU of an empty cell by `%titan on`, over plain", on, _ON_LIMIT_MS, "ms"))
    found.append(_at_most("CPU of the sampler, idle", idle["titan"]["idle"], _IDLE_LIMIT, "%"))
    found.append(_at_most("CPU of the sampler, in a cell", idle["titan"]["open"], _OPEN_LIMIT, "%"))
    return found


def _most_of(values: Sequence[float]) -> float | None:
    """Return what 90 % of the values are below."""
    if len(values) < 2:
        return values[0] if values else None
    return statistics.quantiles(values, n=10, method="inclusive")[-1]


def _at_most(name: str, value: float | None, limit: float, unit: str) -> Goal:
    met = None if value is None else value <= limit
    return {"goal": name, "value": value, "limit": limit, "least": False, "unit": unit, "met": met}
