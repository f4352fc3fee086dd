"""What each counter counted in the cells, in the gaps between them, and together."""

from __future__ import annotations

from collections.abc import Sequence

from titan_nb.records import Energy, Gap
from titan_nb.units import UNKNOWN, joules
from titan_nb.views.devices import device_name
from titan_nb.views.session import SessionTotals

__all__ = ["RIGHT", "TITLES", "notes", "rows"]

TITLES = ("counter", "cells", "gaps", "together")
RIGHT = frozenset(TITLES[1:])
"""Titles of the columns that hold figures, set flush right."""

_GAP = "A gap is the time from the end of one cell to the start of the next."


def rows(gaps: Sequence[Gap], totals: SessionTotals | None) -> list[tuple[str, ...]]:
    """Return one row of texts per counter, in the order of `TITLES`; none where there are no gaps."""
    if totals is None or not gaps:
        return []
    missed = {key for gap in gaps for key, part in gap.energy.items() if part.joules is None}
    found: list[tuple[str, ...]] = []
    for key, between in totals.gap_energy.items():
        cells = totals.energy.get(key, Energy.unknown("in no cell"))
        together = Energy.sum({"cells": cells, "gaps": between})
        in_cells, in_gaps = key in totals.unknown or cells.joules is None, key in missed
        found.append(
            (
                device_name(key),
                _text(cells, in_cells),
                _text(between, in_gaps),
                _text(together, in_cells or in_gaps),
            )
        )
    return found


def notes(totals: SessionTotals | None) -> list[str]:
    """Return what a gap is, and which devices have none."""
    parts = {} if totals is None else totals.energy
    models = [device_name(key) for key, part in parts.items() if part.grade == "modelled"]
    if not models:
        return [_GAP]
    verb = "is" if len(models) == 1 else "are"
    return [f"{_GAP} {', '.join(models)} {verb} modelled, without a counter, and so not in the gaps."]


def _text(energy: Energy, partial: bool) -> str:
    """Return a sum, with ``≥`` where a part of it is unknown."""
    text = joules(energy.joules, energy.low, energy.high)
    return f"≥ {text}" if partial and text != UNKNOWN else text
