"""A report, or a session, as one MIME bundle: JSON for our own renderer, HTML and text for everybody else."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from titan_nb.records import SCHEMA, Energy, Gap, Report
from titan_nb.views.grid import TABLE_MIME
from titan_nb.views.html import report_html, table_html
from titan_nb.views.plain import json_ready, plain
from titan_nb.views.session import MAX_ROWS, SessionTotals, shown_gaps
from titan_nb.views.text import line, table

__all__ = ["REPORT_MIME", "TABLE_MIME", "report_bundle", "table_bundle"]

REPORT_MIME = "application/vnd.titan.report+json"


def report_bundle(report: Report) -> dict[str, Any]:
    """Return the report as JSON, HTML and one line of text, by MIME type.

    Where memory was short a second line says so.
    """
    summary = line(report)
    lines = [summary, plain(report.shortage, 1000)] if report.shortage else [summary]
    return {
        REPORT_MIME: json_ready(report.to_dict()),
        "text/html": report_html(report, summary),
        "text/plain": "\n".join(lines),
    }


def table_bundle(
    reports: Sequence[Report], gaps: Sequence[Gap] = (), totals: SessionTotals | None = None
) -> dict[str, Any]:
    """Return the session as JSON, an HTML table and a text table, by MIME type.

    Each holds the latest `MAX_ROWS` reports and the gaps between them; the JSON in ``total_reports`` also how
    many reports there are.
    """
    shown = reports[-MAX_ROWS:]
    data = {
        "schema": SCHEMA,
        "total_reports": len(reports),
        "reports": [report.to_dict() for report in shown],
        "gaps": [dataclasses.asdict(gap) for gap in shown_gaps(reports, gaps)],
        "totals": None if totals is None else _totals(totals),
    }
    return {
        TABLE_MIME: json_ready(data),
        "text/html": table_html(reports, gaps, totals),
        "text/plain": table(reports, gaps, totals),
    }


def _totals(totals: SessionTotals) -> dict[str, Any]:
    def by_device(parts: Mapping[str, Energy]) -> dict[str, Any]:
        return {key: dataclasses.asdict(part) for key, part in parts.items()}

    return {
        "cells": totals.cells,
        "failed": totals.failed,
        "seconds": totals.seconds,
        "cpu_seconds": totals.cpu_seconds,
        "energy": by_device(totals.energy),
        "gap_energy": by_device(totals.gap_energy),
        "grams": totals.grams,
        "grams_unknown": totals.grams_unknown,
        "unknown": dict(totals.unknown),
    }
