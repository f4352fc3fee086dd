"""Items of the chat memory as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from titan_nb.views.grid import grid_bundle
from titan_nb.views.plain import plain

if TYPE_CHECKING:
    from titan_nb.chat.records import Hit, Hits, Item

__all__ = ["NOTEBOOK", "hits_bundle", "items_bundle", "when"]

NOTEBOOK = "notebook"
"""The chat that holds the cells of the notebook itself."""

_WHEN = "when (UTC)"
SIMULATED = "2000-01-01 00:00"

_LETTERS = 90
_FIGURES = frozenset({"score", "cell", "id"})
_FAST = "found by --fast, which may miss some; without it the answer is exact"


def hits_bundle(hits: Hits, title: str, *, simulated: bool, notes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a search found as a table, by MIME type.

    Args:
        hits: The hits of one query.
        title: Stands above the table.
        simulated: Whether fixed times stand in for those of this run.
        notes: What else there is to say.
    """
    said = list(notes) if hits.certified else [*notes, _FAST]
    several = len({hit.chat_id for hit in hits}) > 1
    header = ("score", "text", _WHEN, "cell", *(["chat"] if several else []), *_more(hits))
    rows = [
        (
            f"{hit.score:.3f}",
            *_columns(hit, simulated),
            *([hit.chat_id] if several else []),
            *([_words(hit)] if _more(hits) else []),
        )
        for hit in hits
    ]
    return grid_bundle(title, header, rows, said, right=_FIGURES)


def items_bundle(items: Sequence[Item], title: str, *, simulated: bool) -> dict[str, Any]:
    """Return items as a table, by MIME type."""
    header = ("id", "text", _WHEN, "cell", *_more(items))
    rows = [
        (str(item.id), *_columns(item, simulated), *([_words(item)] if _more(items) else []))
        for item in items
    ]
    return grid_bundle(title, header, rows, right=_FIGURES)


def when(time: datetime, simulated: bool) -> str:
    """Return a time to the minute, in UTC."""
    return SIMULATED if simulated else time.strftime("%Y-%m-%d %H:%M")


def _shown_text(item: Hit | Item) -> str:
    """Return the beginning of an item's text; of a cell the first line that is code, or a comment."""
    if item.text is None:
        return f"(no text, id {item.id})"
    if item.chat_id != NOTEBOOK:
        return plain(item.text, _LETTERS)
    lines = [line for line in item.text[:4000].splitlines() if line.strip()]
    code = next((line for line in lines if not line.startswith("%")), lines[0] if lines else "")
    return plain(code, _LETTERS)


def _columns(item: Hit | Item, simulated: bool) -> tuple[str, str, str]:
    cell = (item.metadata or {}).get("cell", "")
    return _shown_text(item), when(item.time, simulated), plain(str(cell), 12)


def _more(items: Iterable[Hit | Item]) -> list[str]:
    """Return the title of the column for further metadata, if any of the items has some."""
    return ["metadata"] if any(_words(item) for item in items) else []


def _words(item: Hit | Item) -> str:
    further = {key: value for key, value in (item.metadata or {}).items() if key != "cell"}
    return plain(", ".join(f"{key} {value}" for key, value in further.items()), _LETTERS)
