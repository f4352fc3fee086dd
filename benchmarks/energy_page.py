"""The results of energy.py as a Markdown page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from energy_figures import LENGTHS, length_text
from figures import grid

__all__ = ["page"]

_REDUCED = "**A reduced run (`--quick`)**: it shows that all works. Its cells are too few for a verdict."
_SIMULATED = (
    "The GPU is simulated: a fake `libnvidia-ml.so.1` whose true energy is known, read by the unmodified "
    "pynvml of each tool. So these are the errors of the methods, without those of a real sensor."
)
_ACCURACY = (
    "A busy span of the stated length, with the GPU idle before and after, at any phase of the counter's "
    "tick. *Bias* is the mean error. *At once* is what titan shows as the cell ends; the line above it is "
    "what it settles to after the counter's tick, *settled after* so long. All tools but eco2ai ran at the "
    "same time, each in its own process and on its own GPU; eco2ai, whose start and stop take seconds of "
    "CPU time, ran after them. A peer's figure is compared with the energy of the span or with that of the "
    "span and its own start and stop, whichever is nearer; titan's with that of the span."
)
_COVERAGE = (
    "The same meter on a simulated clock; devices with a tick of 15-120 ms, jitter of up to 5 % of it, idle "
    "power of 20-120 W and busy power of 150-700 W, a new one for every 10 cells. *Covers*: the truth is in "
    "the interval. *Width*: the median of the whole interval, as a part of the truth."
)
_IDLE = (
    "*Idle*: the tool has measured a cell and waits for the next. *In a cell*: it measures one in which the "
    "process sleeps. The first line is a Python without any tool. Simulated reads take microseconds; a real "
    "driver's may take longer."
)


def page(results: Mapping[str, Any]) -> str:
    """Return the page."""
    facts, (before, after) = results["machine"], results["load_average_before_and_after"]
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    peers = ", ".join(
        f"{name} {found.get('version', 'not tried: ' + found.get('not_tried', ''))}"
        for name, found in results["peers"].items()
    )
    watts = results["gpu"]
    parts = [
        "## Energy of a cell (GPU figures are simulated)",
        f"{results['date'][:10]}, {facts['cpu']}, {facts['logical_cores']} logical cores, no GPU, load "
        f"average {before:.1f} before and {after:.1f} after; Python {facts['python']}, {packages}; "
        f"{peers or 'no peers'}; seed {results['seed']}.",
        _SIMULATED,
        f"![Median error by length of cell]({results['plot']})",
    ]
    if results["quick"]:
        parts.insert(1, _REDUCED)
    for kind, tools in results["accuracy"].items():
        counter = "counts all energy" if kind == "integrating" else "looks 25 % of the time"
        parts += [
            f"### Error on a counter that {counter}",
            f"Tick {watts['tick_seconds'] * 1000:g} ms, {watts['idle_watts']:g} W idle, "
            f"{watts['busy_watts']:g} W busy. {_ACCURACY if kind == 'integrating' else ''}".strip(),
            _accuracy_table(tools),
        ]
    parts += ["### Coverage on a simulated clock", _COVERAGE, _coverage_table(results["coverage"])]
    parts += ["### CPU time of an empty cell, in an IPython shell", _cpu_table(results["cpu"])]
    parts += [f"### CPU time of a process that sleeps {results['idle_seconds']:g} s", _IDLE]
    parts += [_idle_table(results["idle"]), "### Goals", _goal_table(results["goals"])]
    return "\n\n".join(parts) + "\n"


def percent(part: float | None, sign: str = "") -> str:
    """Return a part of one as a percentage with at most three digits; a dash for None."""
    if part is None:
        return "-"
    value = abs(part) * 100
    if 0 < value < 0.0005:
        return "< 0.001 %"
    digits = 0 if value >= 99.95 else 1 if value >= 9.995 else 2 if value >= 0.9995 else 3
    return f"{part * 100:{sign}.{digits}f} %"


def _accuracy_table(tools: Mapping[str, Mapping[float, Mapping[str, Any]]]) -> str:
    head = (
        "tool",
        "length",
        "cells",
        "median error",
        "90 % below",
        "bias",
        "read 0 J",
        "covers",
        "width",
        "settled after",
    )
    rows: list[Sequence[str]] = [head]
    for seconds in LENGTHS:
        for tool, table in tools.items():
            if seconds not in table:
                continue
            figures = table[seconds]
            late = figures.get("late_seconds")
            rows.append(
                (
                    tool,
                    length_text(seconds),
                    str(figures["cells"]),
                    percent(figures["median_error"]),
                    percent(figures["p90_error"]),
                    percent(figures["bias"], "+"),
                    str(figures["zeros"]),
                    percent(figures.get("coverage")),
                    percent(figures.get("median_width")),
                    "-" if late is None else f"{late * 1000:.0f} ms",
                )
            )
    return grid(rows)


def _coverage_table(coverage: Mapping[str, Mapping[float, Mapping[str, Any]]]) -> str:
    rows: list[Sequence[str]] = [
        ("counter", "length", "cells", "covers", "width", "median error", "bias", "read 0 J", "settled after")
    ]
    for kind, table in coverage.items():
        for seconds, figures in table.items():
            rows.append(
                (
                    kind,
                    length_text(seconds),
                    f"{figures['cells']:,}",
                    percent(figures["coverage"]),
                    percent(figures["median_width"]),
                    percent(figures["median_error"]),
                    percent(figures["bias"], "+"),
                    str(figures["zeros"]),
                    f"{figures['late_seconds'] * 1000:.0f} ms",
                )
            )
    return grid(rows)


def _cpu_table(cpu: Mapping[str, Mapping[str, Any]]) -> str:
    rows: list[Sequence[str]] = [("cell", "over plain, CPU ms", "10-90 %", "cells")]
    for figures in cpu.values():
        for name, figure in figures.items():
            over = figure["over_plain_ms"]
            if name != "plain":
                span = f"{over['p10']:+.3f} to {over['p90']:+.3f}"
                rows.append((name, f"{over['median']:+.3f}", span, str(figure["cells"])))
    return grid(rows)


def _idle_table(idle: Mapping[str, Mapping[str, float]]) -> str:
    rows: list[Sequence[str]] = [("tool", "idle, % of a core", "in a cell, % of a core")]
    rows += [(tool, *(f"{part[key] * 100:.3f}" for key in ("idle", "open"))) for tool, part in idle.items()]
    return grid(rows)


def _goal_table(goals: Sequence[Mapping[str, Any]]) -> str:
    rows: list[Sequence[str]] = [("goal", "figure", "limit", "")]
    verdict = {True: "met", False: "MISSED", None: "not tried"}
    for goal in goals:
        how = "at least" if goal["least"] else "at most"
        rows.append(
            (
                goal["goal"],
                _with_unit(goal["value"], goal["unit"]),
                f"{how} {_with_unit(goal['limit'], goal['unit'])}",
                verdict[goal["met"]],
            )
        )
    return grid(rows)


def _with_unit(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "%":
        return percent(value)
    return f"{value:.2f} {unit}" if unit else f"{value:g}"
