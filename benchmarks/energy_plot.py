"""The error of one cell's energy by the cell's length, titan against its peers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from energy_figures import LENGTHS, length_text

__all__ = ["plot"]

_INK, _FAINT = "#1f2933", "#d5dbe1"
_COLOURS = {
    "titan": "#0b7a75",
    "titan, at once": "#7cc4be",
    "codecarbon": "#d1495b",
    "zeus": "#c98a1b",
    "carbontracker": "#6a4c93",
    "eco2ai": "#8d99ae",
}
_TITLES = {
    "integrating": "counter that counts all energy",
    "part-time": "counter that looks 25 % of the time",
}
_LEAST = 1e-4
"""Percent; a median error of nothing has no place on a logarithmic axis."""
_LABEL_GAP = 1.7
"""The ratio of two errors whose labels do not touch."""


def plot(accuracy: Mapping[str, Mapping[str, Mapping[float, Mapping[str, Any]]]], path: Path) -> None:
    """Write the plot to ``path``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"font.family": "DejaVu Sans", "font.size": 10.5, "text.color": _INK, "axes.labelcolor": _INK}
    with plt.rc_context(style | {"xtick.color": _INK, "ytick.color": _INK}):
        figure, axes = plt.subplots(1, len(accuracy), figsize=(11, 5.2), sharey=True, layout="constrained")
        for ax, (kind, tools) in zip(axes, accuracy.items(), strict=True):
            _panel(ax, tools, _TITLES[kind])
        axes[0].set_ylabel("median error of one cell")
        figure.suptitle(
            "Energy of one notebook cell on a simulated GPU", x=0.012, ha="left", fontsize=14, weight="bold"
        )
        figure.supxlabel("length of the cell", fontsize=10.5)
        figure.savefig(path, dpi=160, facecolor="white", metadata={"Software": None})
        plt.close(figure)


def _panel(ax: Any, tools: Mapping[str, Mapping[float, Mapping[str, Any]]], title: str) -> None:
    ends = {}
    for tool, table in tools.items():
        found = [(LENGTHS.index(at), row["median_error"]) for at, row in table.items() if row["cells"]]
        points = [(at, max(100 * error, _LEAST)) for at, error in found if error is not None]
        if not points:
            continue
        ours = tool == "titan"
        ax.plot(
            *zip(*points, strict=True),
            color=_COLOURS[tool],
            linewidth=3 if ours else 1.6,
            linestyle="--" if tool == "titan, at once" else "-",
            marker="o",
            markersize=7 if ours else 4.5,
            zorder=3 if ours else 2,
            clip_on=False,
        )
        ends[tool] = points[-1]
    _labels(ax, ends)
    ax.set_yscale("log")
    ax.set_title(title, loc="left", fontsize=11)
    ax.set_xticks(range(len(LENGTHS)), [length_text(seconds) for seconds in LENGTHS])
    ax.set_xlim(-0.2, len(LENGTHS) - 1 + 0.15)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    ax.grid(axis="y", color=_FAINT, linewidth=0.8)
    ax.tick_params(which="both", length=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.spines["bottom"].set_color(_FAINT)


def _labels(ax: Any, ends: Mapping[str, tuple[int, float]]) -> None:
    """Name the lines at their right ends, moved apart where they would touch."""
    lowest = 0.0
    for tool, (at, error) in sorted(ends.items(), key=lambda end: end[1][1]):
        lowest = max(error, lowest * _LABEL_GAP)
        ax.annotate(
            tool,
            (at, lowest),
            xytext=(11, 0),
            textcoords="offset points",
            va="center",
            color=_COLOURS[tool],
            weight="bold" if tool == "titan" else "normal",
            annotation_clip=False,
        )
