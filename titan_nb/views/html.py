"""A report, or a session, as static HTML; see `titan_nb.views.grid` for what survives a sanitiser."""

from __future__ import annotations

from collections.abc import Sequence

from titan_nb.records import Gap, Report
from titan_nb.views import balance, detail, session
from titan_nb.views.grid import grid_html, html_text
from titan_nb.views.text import line

__all__ = ["report_html", "table_html"]


def report_html(report: Report, summary: str | None = None) -> str:
    """Return one line that folds open to the devices, their grades and sources, and the notes.

    Args:
        report: The report.
        summary: Its `line`, where the caller has it already.
    """
    summary = line(report) if summary is None else summary
    parts = [f"<div>{html_text(detail.facts(report))}</div>"]
    if report.energy:
        titles, rows = detail.energy_table(report)
        parts.append(grid_html("Energy", titles, rows, right=detail.RIGHT))
    lines = (detail.carbon_line(report), detail.cost_line(report))
    parts += [f"<div>{html_text(text)}</div>" for text in lines if text]
    if report.memory.devices:
        parts.append(grid_html("Memory", *detail.memory_table(report), right=detail.RIGHT))
        if kept := detail.kept_line(report):
            parts.append(f"<div>{html_text(kept)}</div>")
    notes = "".join(f"<li>{html_text(note)}</li>" for note in detail.notes(report))
    if notes:
        parts.append(f'<ul style="margin:4px 0">{notes}</ul>')
    # Not folded away: who reads a failed cell looks for just this.
    shortage = f'<div style="font-size:90%">{html_text(report.shortage)}</div>' if report.shortage else ""
    return (
        f'<details style="font-size:90%"><summary style="cursor:pointer">{html_text(summary)}</summary>'
        f'<div style="margin:4px 0 4px 16px">{"".join(parts)}</div></details>{shortage}'
    )


def table_html(
    reports: Sequence[Report], gaps: Sequence[Gap] = (), totals: session.SessionTotals | None = None
) -> str:
    """Return the session as a table, one row a cell; the latest `session.MAX_ROWS` cells are shown.

    Args:
        reports: The reports in order.
        gaps: The gaps to be shown between the cells, with a balance of each counter below; without them
            only their sum is shown, in the last row.
        totals: Sums for the last rows, such as the ledger's.
    """
    if not reports:
        return "<div>No cell has been tracked yet.</div>"
    shown = session.session_table(reports, gaps, totals)
    parts = [grid_html(shown.caption, shown.titles, shown.body, right=session.RIGHT, foot=shown.foot)]
    if rows := balance.rows(gaps, totals):
        parts.append(grid_html("Balance of the counters", balance.TITLES, rows, right=balance.RIGHT))
        parts += [f"<div>{html_text(note)}</div>" for note in balance.notes(totals)]
    return f'<div style="overflow-x:auto">{"".join(parts)}</div>'
