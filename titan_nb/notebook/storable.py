"""What of a value in the notebook can be stored in the chat memory: rows of numbers, or texts."""

from __future__ import annotations

import sys
from typing import Any

from titan_nb.errors import ChatError

__all__ = ["STORABLE", "kind", "storable"]

STORABLE = (
    "what can be stored: a table of floating-point numbers (tensor, array, list of rows), a text, a list of "
    "texts, or the column of a DataFrame"
)
_LOOKED_AT = 100


def storable(value: object, column: str | None = None) -> Any:
    """Return what the chat memory takes of ``value``, a table or a list of texts; None if there is nothing.

    Args:
        value: A tensor or array of numbers (of one dimension: one row), a text, a list, a pandas Series of
            texts or of vectors, or a DataFrame.
        column: Which column of a DataFrame is meant.

    Raises:
        ChatError: If the column is missing, or is asked for of something without columns.
    """
    if _is(value, "pandas", "DataFrame"):
        value = _column(value, column)
    elif column is not None:
        raise ChatError(f"--column is for a DataFrame, and {kind(value)}: leave it out")
    if _is(value, "pandas", "Series"):
        return _listed_rows(value)
    if type(value) is str:
        return [value]
    if type(value) in (list, tuple):
        return value if _has_rows(value) else None
    if _is(value, "pandas", "DataFrame"):
        return value
    if _is(value, "numpy", "ndarray") and value.dtype.kind in "OUT":  # type: ignore[attr-defined]
        return value.tolist() if value.ndim == 1 else None  # type: ignore[attr-defined]
    if _is_array(value):
        rows: Any = value
        return rows if rows.ndim == 2 else rows[None] if rows.ndim == 1 else None
    return None


def kind(value: object) -> str:
    """Return in words what a value is."""
    if value is None:
        return "the cell has no last value, or a semicolon hides it"
    shape = ""
    if type(value) is list:
        shape = f", of {type(value[0]).__name__}" if value else ", and empty"
    if _is_array(value):
        dimensions = value.ndim  # type: ignore[attr-defined]
        shape = f" with {dimensions} dimension{'s' * (dimensions != 1)}"
    return f"the last value is of type {type(value).__name__}{shape}"


def _column(frame: Any, name: str | None) -> Any:
    """Return the column of that name; without a name the frame itself, if it has no texts."""
    names = [str(one) for one in frame.columns]
    if name is not None:
        if names.count(name) != 1:
            many = "more than one column" if name in names else "no column"
            raise ChatError(f"the DataFrame has {many} {name!r}; it has: {_listed(names)}")
        return frame.iloc[:, names.index(name)]
    if len(names) == 1:
        return frame.iloc[:, 0]
    texts = [one for number, one in enumerate(names) if _has_texts(frame.iloc[:, number])]
    if texts:
        raise ChatError(f"say which column of the DataFrame, --column NAME: texts are in {_listed(texts)}")
    return frame


def _listed_rows(series: Any) -> list[Any]:
    """Return a Series as a list; refuse it if it holds single numbers, which are no rows."""
    values: list[Any] = series.tolist()
    if values and all(type(one) in (int, float, bool) for one in values):
        raise ChatError("the Series holds single numbers: store a column of texts, or one of vectors")
    return values


def _has_rows(values: Any) -> bool:
    """Say whether a list begins with a row or holds a text; the memory judges what else it holds."""
    first = next(iter(values), None)
    return type(first) in (list, tuple) or _is_array(first) or any(type(one) is str for one in values)


def _has_texts(series: Any) -> bool:
    return any(type(one) is str for one in series.head(_LOOKED_AT))


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:8]))
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown or "none"


def _is_array(value: object) -> bool:
    return _is(value, "torch", "Tensor") or _is(value, "numpy", "ndarray")


def _is(value: object, module: str, name: str) -> bool:
    """Say whether ``value`` is of a class of a module that somebody has imported; asks nothing of it."""
    known = getattr(sys.modules.get(module), name, None)
    return known is not None and known in type(value).__mro__
