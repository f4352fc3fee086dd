"""The session as a table of short texts, which the text and the HTML view both set."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from titan_nb.records import Energy, Gap, Report
from titan_nb.rows import row
from titan_nb.units import UNKNOWN, byte_size, grams, joule_parts, seconds
from titan_nb.views.figures import carbon_figure, cost_figure, energy_figure
from titan_nb.views.plain import plain

__all__ = ["MAX_ROWS", "RIGHT", "SessionTable", "SessionTotals", "session_table", "shown_gaps", "totals_line"]

MAX_ROWS = 500
"""A longer table would slow the page and swell the notebook; the exports hold every cell."""

TITLES = (
    "cell",
    "#",
    "label",
    "outcome",
    "time",
    "CPU time",
    "energy",
    "interval",
    "grade",
    "CO2e",
    "cost",
    "GPU peak",
    "RAM peak",
    "RAM kept",
)
RIGHT = frozenset(TITLES) - {"label", "outcome", "interval", "grade"}
"""Titles of the columns that hold figures, set flush right."""


# Shorter than in the records: a terminal has few columns.
_OUTCOMES = {"ok": "ok", "error": "failed", "interrupted": "stopped"}


class SessionTotals(Protocol):
    """Sums over a session, as far as a table shows them; the ledger's totals are of this shape."""

    @property
    def cells(self) -> int:
        """How many outermost windows there were."""

    @property
    def failed(self) -> int:
        """How many of them ended with an error or an interrupt."""

    @property
    def seconds(self) -> float:
        """Wall time in the windows, in seconds."""

    @property
    def cpu_seconds(self) -> float:
        """CPU time in the windows, in seconds."""

    @property
    def energy(self) -> Mapping[str, Energy]:
        """Sums by device key."""

    @property
    def gap_energy(self) -> Mapping[str, Energy]:
        """Sums of the gaps by device key; counters only."""

    @property
    def unknown(self) -> Mapping[str, int]:
        """In how many windows a device was unknown, by device key."""

    @property
    def grams(self) -> float | None:
        """Grams of CO2e over the cells whose carbon is known."""

    @property
    def grams_unknown(self) -> int:
        """How many cells have no carbon figure."""


@dataclass(frozen=True, slots=True)
class SessionTable:
    """A table of short texts.

    Attributes:
        titles: Titles of the columns that say something.
        body: One row per cell, and per gap where gaps were given.
        foot: The sums.
        caption: How many cells there are, and how many of them are shown.
    """

    titles: tuple[str, ...]
    body: tuple[tuple[str, ...], ...]
    foot: tuple[tuple[str, ...], ...]
    caption: str

    def without(self, titles: Collection[str]) -> SessionTable:
        """Return this table without the columns named in ``titles``."""
        kept = [index for index, title in enumerate(self.titles) if title not in titles]

        def cut(rows: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
            return tuple(tuple(cells[index] for index in kept) for cells in rows)

        return SessionTable(
            tuple(self.titles[index] for index in kept), cut(self.body), cut(self.foot), self.caption
        )


def session_table(
    reports: Sequence[Report],
    gaps: Sequence[Gap] = (),
    totals: SessionTotals | None = None,
    *,
    label_limit: int = 24,
) -> SessionTable:
    """Return the latest `MAX_ROWS` reports as a table, without the columns that would say nothing.

    Args:
        reports: The reports in order.
        gaps: The gaps to be shown between the cells; see `shown_gaps`.
        totals: Sums for the foot.
        label_limit: Characters after which a label is cut.
    """
    shown = reports[-MAX_ROWS:]
    waiting = deque(shown_gaps(reports, gaps))
    body = []
    for report in shown:
        while waiting and waiting[0].before <= report.number:
            body.append(_gap_texts("gap", waiting[0].seconds, waiting.popleft().energy))
        body.append(_report_texts(report, label_limit))
    body += [_gap_texts("gap", gap.seconds, gap.energy) for gap in waiting]
    foot = [] if totals is None else _total_texts(totals)
    table = SessionTable(
        TITLES,
        tuple(tuple(texts.get(title, "") for title in TITLES) for texts in body),
        tuple(tuple(texts.get(title, "") for title in TITLES) for texts in foot),
        _caption(sum(report.parent is None for report in reports), len(reports)),
    )
    return table.without(_silent(body))


def shown_gaps(reports: Sequence[Report], gaps: Sequence[Gap]) -> list[Gap]:
    """Return the gaps that stand among the latest `MAX_ROWS` reports, in order.

    Gaps of which no counter tells anything are left out.
    """
    first = reports[-MAX_ROWS].number if len(reports) > MAX_ROWS else 0
    counted = (gap for gap in gaps if gap.energy and gap.before >= first)
    return sorted(counted, key=lambda gap: (gap.before, gap.after))[-MAX_ROWS:]


def totals_line(reports: Sequence[Report], totals: SessionTotals | None) -> str:
    """Return the sums on one line, such as ``12 tracked cells · 1 failed · 1 min 5 s · 1.84 kJ``."""
    if totals is None:
        return _caption(sum(report.parent is None for report in reports))
    texts = _total_texts(totals)[0]
    energy = f"{texts['energy']} ({texts['interval']})" if texts["interval"] else texts["energy"]
    carbon = f"CO2e {UNKNOWN}" if texts["CO2e"] == UNKNOWN else f"{texts['CO2e']} CO2e"
    cost = [f"energy {UNKNOWN}" if energy == UNKNOWN else energy, carbon]
    return " · ".join(filter(None, [_caption(totals.cells), texts["outcome"], texts["time"], *cost]))


def _caption(cells: int, rows: int = 0) -> str:
    text = f"{cells} tracked cell{'s' * (cells != 1)}"
    return f"{text}, the latest {MAX_ROWS} of {rows} rows shown" if rows > MAX_ROWS else text


def _silent(body: Sequence[Mapping[str, str]]) -> set[str]:
    silent = {title for title in TITLES if not any(texts.get(title) for texts in body)}
    if all(texts.get("outcome", "ok") == "ok" for texts in body):
        silent.add("outcome")
    if all(texts.get("#") in (None, texts["cell"]) for texts in body):
        silent.add("#")
    return silent


def _report_texts(report: Report, label_limit: int) -> dict[str, str]:
    values = row(report)
    count = values["cell"] if values["execution_count"] is None else values["execution_count"]
    number = str(report.number)
    partial = bool(values["energy_unknown"])
    return {
        "#": number if report.parent is None else f"{number} in {report.parent}",
        "cell": "–" if count is None else str(count),
        "label": plain(report.label or "", label_limit),
        "outcome": _OUTCOMES[report.outcome],
        "time": seconds(report.seconds),
        "CPU time": seconds(report.cpu_seconds),
        **_energy_texts(report.total, partial),
        "CO2e": carbon_figure(report.carbon, report.total, partial),
        "cost": cost_figure(report.cost, report.total, partial)[0],
        "GPU peak": _bytes_text(values["gpu_peak_bytes"]),
        "RAM peak": _bytes_text(values["ram_peak_bytes"]),
        "RAM kept": _bytes_text(values["ram_kept_bytes"], signed=True),
    }


def _energy_texts(total: Energy, partial: bool) -> dict[str, str]:
    amount, interval = energy_figure(total, partial)
    return {"energy": amount, "interval": interval, "grade": "" if total.joules is None else total.grade}


def _bytes_text(count: int | None, *, signed: bool = False) -> str:
    return "" if count is None else byte_size(count, signed=signed)


def _gap_texts(name: str, length: float | None, energy: Mapping[str, Energy]) -> dict[str, str]:
    total = Energy.sum(energy)
    # With its share also where that is no more than bounded, so that cells and gaps can be added up.
    amount, interval = joule_parts(total.joules, total.low, total.high)
    partial = any(part.joules is None for part in energy.values()) and amount != UNKNOWN
    return {
        "cell": name,
        "time": "" if length is None else seconds(length),
        "energy": f"≥ {amount}" if partial else amount,
        "interval": interval,
        "grade": "" if total.joules is None else total.grade,
    }


def _total_texts(totals: SessionTotals) -> list[dict[str, str]]:
    partial = bool(totals.unknown)
    amount = grams(totals.grams)
    at_least = totals.grams is not None and (partial or totals.grams_unknown) and not amount.startswith("<")
    first = {
        "cell": "total",
        "outcome": f"{totals.failed} failed" if totals.failed else "",
        "time": seconds(totals.seconds),
        "CPU time": seconds(totals.cpu_seconds),
        **_energy_texts(Energy.sum(totals.energy), partial),
        "CO2e": f"≥ {amount}" if at_least else amount,
    }
    return [first, _gap_texts("gaps", None, totals.gap_energy)] if totals.gap_energy else [first]
