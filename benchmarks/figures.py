"""From the CPU seconds of the blocks to figures, goals and a table; pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["goals", "grid", "profile_text", "spread", "summary", "table"]

Sweep = Mapping[str, Mapping[str, "float | None"]]
Figures = dict[str, dict[str, Any]]

ON_LIMIT_MS = 0.3
QUIET_LIMIT = 3.0
SHOWN_LIMIT = 5.0


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median and the 10 % and 90 % quantiles, by linear interpolation."""
    if len(values) == 1:
        return {"median": values[0], "p10": values[0], "p90": values[0]}
    tenths = statistics.quantiles(values, n=10, method="inclusive")
    return {"median": statistics.median(values), "p10": tenths[0], "p90": tenths[-1]}


def summary(sweeps: Sequence[Sweep], cells: int) -> Figures:
    """Return the figures of each variant, in milliseconds of CPU per cell.

    The difference from the plain cell is taken within each sweep, whose blocks ran close together in time;
    its median is what ``ratio_to_time`` compares. A ratio is None where ``%%time`` was not run, or its own
    difference is not above zero.

    Args:
        sweeps: CPU seconds per cell by variant, one block of each variant in each sweep.
        cells: How many cells a block had.
    """
    figures: Figures = {}
    for name in sweeps[0]:
        figures[name] = {
            "cells": cells * len(sweeps),
            "blocks": len(sweeps),
            "cpu_ms": spread([_ms(sweep[name]["process"]) for sweep in sweeps]),
            "over_plain_ms": spread(
                [_ms(sweep[name]["process"]) - _ms(sweep["plain"]["process"]) for sweep in sweeps]
            ),
            "thread_ms": None,
        }
        if sweeps[0][name]["thread"] is not None:
            figures[name]["thread_ms"] = spread([_ms(sweep[name]["thread"]) for sweep in sweeps])
    time_ms = figures["%%time"]["over_plain_ms"]["median"] if "%%time" in figures else 0.0
    for figure in figures.values():
        over = figure["over_plain_ms"]["median"]
        figure["ratio_to_time"] = over / time_ms if time_ms > 0 else None
    return figures


def goals(
    titan: Figures, peers: Mapping[str, Mapping[str, Any]], kernel: Figures | None
) -> list[dict[str, Any]]:
    """Return each goal with its figure, its limit, and whether it is met (None: could not be tried)."""
    found = _own_goals("shell", titan)
    for peer, result in peers.items():
        figures = result.get("figures")
        limit = None if figures is None else figures[peer]["over_plain_ms"]["median"]
        for variant in ("%titan on", "%%titan -q", "%%titan"):
            value = titan[variant]["over_plain_ms"]["median"]
            found.append(_goal(f"{variant}: cheaper than {peer}", "ms", value, limit, variant))
    if kernel is not None:
        found += _own_goals("kernel", kernel)
    return found


def table(title: str, figures: Figures) -> str:
    """Return an aligned table, one row a variant, which is Markdown as well."""
    head = ("cell", "CPU ms", "10-90 %", "over plain ms", "10-90 %", "x %%time", "cells")
    rows = [head]
    for name, figure in figures.items():
        cpu, over, ratio = figure["cpu_ms"], figure["over_plain_ms"], figure["ratio_to_time"]
        rows.append(
            (
                name,
                f"{cpu['median']:.3f}",
                f"{cpu['p10']:.3f}-{cpu['p90']:.3f}",
                "" if name == "plain" else f"{over['median']:+.3f}",
                "" if name == "plain" else f"{over['p10']:+.3f} to {over['p90']:+.3f}",
                "" if name == "plain" or ratio is None else f"{ratio:.2f}",
                str(figure["cells"]),
            )
        )
    return f"### {title}\n\n{grid(rows)}"


def goal_table(found: Sequence[Mapping[str, Any]]) -> str:
    """Return the goals as an aligned table."""
    rows = [("goal", "figure", "limit", "")]
    verdict = {True: "met", False: "missed", None: "not tried"}
    for goal in found:
        figures = (
            f"{goal[key]:.2f} {goal['unit']}" if goal[key] is not None else "-" for key in ("value", "limit")
        )
        rows.append((goal["goal"], *figures, verdict[goal["met"]]))  # type: ignore[arg-type]
    return f"### Goals\n\n{grid(rows)}"


def profile_text(profiles: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Return the profiled functions as tables, one a variant."""
    parts = ["Functions of titan_nb by their own time, per cell, under cProfile, which slows all of it down."]
    for variant, rows in profiles.items():
        lines = [f"{'own us':>8} {'total us':>9} {'calls':>6}  function"]
        lines += [
            f"{row['own_us']:8.1f} {row['total_us']:9.1f} {row['calls']:6.1f}  {row['function']}"
            for row in rows
        ]
        parts.append("\n".join([variant, *lines]))
    return "\n\n".join(parts) + "\n"


def _own_goals(where: str, figures: Figures) -> list[dict[str, Any]]:
    def of(variant: str, key: str) -> float | None:
        value = figures[variant][key]
        return value["median"] if isinstance(value, dict) else value

    on, quiet, shown = "%titan on", "%%titan -q", "%%titan"
    return [
        _goal(f"{where}: {on} over plain", "ms", of(on, "over_plain_ms"), ON_LIMIT_MS, on),
        _goal(f"{where}: {quiet} against %%time", "x", of(quiet, "ratio_to_time"), QUIET_LIMIT, quiet),
        _goal(f"{where}: {shown} against %%time", "x", of(shown, "ratio_to_time"), SHOWN_LIMIT, shown),
    ]


def _goal(goal: str, unit: str, value: float | None, limit: float | None, variant: str) -> dict[str, Any]:
    met = None if value is None or limit is None else value <= limit
    return {"goal": goal, "unit": unit, "value": value, "limit": limit, "met": met, "variant": variant}


def _ms(seconds: float | None) -> float:
    return (seconds or 0.0) * 1e3


def grid(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of which is the head, as an aligned Markdown table."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for number, row in enumerate(rows):
        first, *rest = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(text.rjust(width) for text, width in rest)]
        lines.append(f"| {' | '.join(cells)} |")
        if number == 0:
            rules = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
            lines.append(f"| {' | '.join(rules)} |")
    return "\n".join(lines)
