"""The time of one search by the number of rows, with the time that reading them would take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["plot"]

_INK, _FAINT = "#1f2933", "#d5dbe1"
_LOOKS = {
    "torch float32": ("#8d99ae", "-", "torch float32 + topk"),
    "float32 read limit": ("#d1495b", "--", "reading the float32 rows"),
    "titan exact": ("#0b7a75", "-", "titan, exact and certified"),
    "titan fast": ("#c98a1b", "-", "titan, fast"),
}


def plot(rows: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Write the plot to ``path``.

    Args:
        rows: Figures by tool, by number of rows.
        path: A PNG file.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style = {"font.family": "DejaVu Sans", "font.size": 10.5, "text.color": _INK, "axes.labelcolor": _INK}
    with plt.rc_context(style | {"xtick.color": _INK, "ytick.color": _INK}):
        figure, ax = plt.subplots(figsize=(8.5, 5.2), layout="constrained")
        counts = sorted(map(int, rows))
        ends = []
        for tool, (colour, line, label) in _LOOKS.items():
            times = [rows[str(count)][tool]["cpu_ms"]["median"] for count in counts]
            marker = "" if line == "--" else "o"
            ax.plot(counts, times, line, color=colour, linewidth=2, marker=marker, markersize=5)
            ends.append((times[-1], label, colour))
        _labels(ax, counts[-1], ends)
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlabel("rows of 384 numbers")
        ax.set_ylabel("CPU time of one search, ms")
        ax.grid(color=_FAINT, linewidth=0.7)
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
        figure.suptitle(
            "Top 10 of embeddings of text, one thread", x=0.012, ha="left", fontsize=14, weight="bold"
        )
        figure.savefig(path, dpi=160, facecolor="white", metadata={"Software": None})
        plt.close(figure)


def _labels(ax: Any, at: int, ends: list[tuple[float, str, str]]) -> None:
    """Write each line's name at its right end, those that would touch a little apart."""
    lowest = 0.0
    for time, label, colour in sorted(ends):
        height = max(time, lowest * 1.55)
        lowest = height
        ax.annotate(
            label, (at, height), (8, 0), textcoords="offset points", color=colour, va="center", fontsize=9.5
        )
