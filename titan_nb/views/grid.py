"""Rows of short texts in aligned columns: for a terminal, as static HTML, and as a MIME bundle.

The HTML uses only elements, attributes and style properties that JupyterLab keeps in untrusted notebooks: no
script, no ``<style>``, no SVG, no ARIA. It sets no colour of ink, so the page's own holds, dark or light.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence
from html import escape
from typing import Any

from titan_nb.records import SCHEMA
from titan_nb.views.plain import json_ready, plain, width

__all__ = ["TABLE_MIME", "grid_bundle", "grid_html", "grid_text", "grid_width", "html_text"]

TABLE_MIME = "application/vnd.titan.table+json"

_Cells = Sequence[str]
_SPACE = "  "
_SHORT = 24
_FIGURE = re.compile(r"[-+−≥≤<]?\s?\d")


def grid_text(
    titles: _Cells, body: Sequence[_Cells], *, right: Collection[str] = (), foot: Sequence[_Cells] = ()
) -> str:
    """Return ``body`` under ``titles`` and above ``foot``; the columns named in ``right`` are flush right."""
    widths = _widths(titles, (*body, *foot))

    def aligned(cells: _Cells) -> str:
        padded = []
        for title, cell, size in zip(titles, cells, widths, strict=True):
            space = " " * (size - width(cell))
            padded.append(space + cell if title in right else cell + space)
        return _SPACE.join(padded).rstrip()

    rule = _SPACE.join("─" * size for size in widths)
    lines = [aligned(titles), rule, *map(aligned, body)]
    if foot:
        lines += [rule, *map(aligned, foot)]
    return "\n".join(lines)


def grid_width(titles: _Cells, body: Sequence[_Cells]) -> int:
    """Return how many columns of a terminal the grid takes."""
    return sum(_widths(titles, body)) + len(_SPACE) * (len(titles) - 1)


def grid_html(
    caption: str,
    titles: _Cells,
    body: Sequence[_Cells],
    *,
    right: Collection[str] = (),
    foot: Sequence[_Cells] = (),
) -> str:
    """Return the grid as one ``<table>``, with its caption and the scope of every header."""
    head = "".join(_header(title, title in right) for title in titles)
    rows = "".join(f'<tr align="right">{_row(titles, cells, right)}</tr>' for cells in body)
    sums = "".join(
        f'<tr align="right"{"" if number else _rule("top")}>{_row(titles, cells, right)}</tr>'
        for number, cells in enumerate(foot)
    )
    # The attributes serve pages that bring no style of their own; a notebook's style goes before them.
    return (
        '<table cellpadding="4" style="margin:4px 0;border-collapse:collapse">'
        f'<caption style="text-align:left">{html_text(caption)}</caption>'
        f'<thead><tr align="right"{_rule("bottom")}>{head}</tr></thead><tbody>{rows}</tbody>'
        f"{f'<tfoot>{sums}</tfoot>' if sums else ''}</table>"
    )


def grid_bundle(
    title: str,
    header: _Cells,
    rows: Sequence[_Cells],
    notes: Sequence[str] = (),
    *,
    right: Collection[str] | None = None,
) -> dict[str, Any]:
    """Return a titled table as JSON, HTML and text, by MIME type; columns of figures are set flush right.

    Args:
        title: Stands above the table.
        header: The titles of the columns.
        rows: The cells.
        notes: What else there is to say, one line each, below the table.
        right: Titles of the columns of figures; by default those whose cells, but for gaps, begin as figures.
    """
    texts = [[plain(cell) for cell in cells] for cells in rows]
    if right is None:
        right = {
            name
            for name, column in zip(header, zip(*texts, strict=True), strict=False)
            if any(column) and all(not cell or _FIGURE.match(cell) for cell in column)
        }
    if texts:
        text = f"{plain(title)}\n\n{grid_text(header, texts, right=right)}"
        html = f'<div style="overflow-x:auto">{grid_html(title, header, texts, right=right)}</div>'
    else:
        text = f"{plain(title)}: nothing to show."
        html = f"<div>{html_text(text)}</div>"
    if notes:
        html += f"<ul>{''.join(f'<li>{html_text(note)}</li>' for note in notes)}</ul>"
        text = "\n".join([text, "", *(f"- {note}" for note in notes)])
    data = {"schema": SCHEMA, "title": title, "columns": header, "rows": rows}
    return {TABLE_MIME: json_ready(data), "text/html": html, "text/plain": text}


def html_text(text: str) -> str:
    """Return text from outside as one safe line of HTML."""
    return escape(plain(text, 1000))


@functools.lru_cache(maxsize=64)  # the same titles stand above every report
def _header(title: str, flush_right: bool) -> str:
    style = "" if flush_right else ' style="text-align:left"'
    text = html_text(title)
    if flush_right:
        text = text.replace(" ", "\N{NO-BREAK SPACE}")
    return f'<th scope="col"{style}>{text}</th>'


def _row(titles: _Cells, cells: _Cells, right: Collection[str]) -> str:
    out = []
    for index, (title, cell) in enumerate(zip(titles, cells, strict=True)):
        text = html_text(cell)
        styles = ["font-weight:normal"] if index == 0 else []
        # A figure and its unit, an interval, a name: they stay on one line; sentences may wrap.
        if title in right:
            text = text.replace(" ", "\N{NO-BREAK SPACE}")
        else:
            styles.append("text-align:left")
            if len(text) <= _SHORT and not text.isalpha():
                styles.append("white-space:nowrap")
        style = f' style="{";".join(styles)}"' if styles else ""
        out.append(f'<th scope="row"{style}>{text}</th>' if index == 0 else f"<td{style}>{text}</td>")
    return "".join(out)


def _rule(side: str) -> str:
    # Half-transparent grey: a quiet line on white and on black.
    return f' style="border-{side}:1px solid #8888"'


def _widths(titles: _Cells, body: Sequence[_Cells]) -> list[int]:
    return [max(map(width, column)) for column in zip(titles, *body, strict=True)]
