"""The session as CSV or JSON text."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import Any

from titan_nb.records import Report
from titan_nb.rows import COLUMNS, row, rows
from titan_nb.views.plain import json_ready

__all__ = ["COLUMNS", "row", "rows", "to_csv", "to_json"]

# A spreadsheet takes a cell that begins with one of these for a formula and runs it.
_FORMULA = ("=", "+", "-", "@", "\t", "\n")


def to_csv(reports: Iterable[Report]) -> str:
    """Return one line per report under a header of `COLUMNS`; what is unknown is an empty cell.

    Text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for values in rows(reports):
        writer.writerow([_csv_cell(values[name]) for name in COLUMNS])
    return out.getvalue()


def to_json(reports: Iterable[Report]) -> str:
    """Return a JSON list of `Report.to_dict`, which `Report.from_dict` reads again."""
    return json.dumps([json_ready(report.to_dict()) for report in reports], indent=1, allow_nan=False)


def _csv_cell(value: Any) -> Any:
    if not isinstance(value, str):
        return json_ready(value)
    # A lone carriage return would end the line for the reader, for it is not quoted.
    text = str(json_ready(value)).replace("\0", "").replace("\r\n", "\n").replace("\r", "\n")
    return f"'{text}" if text.startswith(_FORMULA) else text
