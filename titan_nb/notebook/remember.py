"""`--chat ID`: what of a cell's last value goes into the chat memory."""

from __future__ import annotations

import sys
from collections.abc import Callable

import titan_nb
from titan_nb.errors import ChatError
from titan_nb.notebook.cells import Ended
from titan_nb.tracker import Run

__all__ = ["store"]

STORABLE = "what --chat stores: a 2-d float tensor or array, or a list of strings, as the cell's last value"


def store(run: Run, ended: Ended, warn: Callable[[str, BaseException], None]) -> str:
    """Store the last value of a cell under the chat id of its settings; return one line that says so.

    A 2-d float tensor or array is stored as it is, a list of strings through the memory's encoder. Anything
    else, or a cell that failed, stores nothing and the line says why.
    """
    chat_id = str(run.settings.chat)
    if ended.outcome != "ok":
        return f"nothing stored under {chat_id!r}: the cell did not finish"
    value = ended.value
    if not (_is_matrix(value) or _is_texts(value)):
        run.notes.append(STORABLE)
        return f"nothing stored under {chat_id!r}: {_kind(value)}"
    cell = {"cell": run.number if run.cell is None else run.cell.execution_count or run.cell.number}
    try:
        rows = len(titan_nb.chat_memory().add(chat_id, value, metadata=cell))
    except ChatError as error:
        run.notes.append(f"chat memory: {error}")
        return f"nothing stored under {chat_id!r}: the memory refused it, see the notes"
    except KeyboardInterrupt:
        return f"nothing stored under {chat_id!r}: interrupted"
    except BaseException as error:
        warn("the chat memory failed", error)
        return f"nothing stored under {chat_id!r}: {type(error).__name__}"
    if rows == 0:
        return f"nothing stored under {chat_id!r}: the table has no rows"
    return f"stored {rows} row{'s' * (rows != 1)} under {chat_id!r}"


def _kind(value: object) -> str:
    if value is None:
        return "the cell has no last value, or a semicolon hides it"
    dimensions = getattr(value, "ndim", None)
    shape = "" if dimensions is None else f" with {dimensions} dimension{'s' * (dimensions != 1)}"
    return f"the last value is of type {type(value).__name__}{shape}"


def _is_matrix(value: object) -> bool:
    """Say whether ``value`` is a tensor or array of two dimensions, without importing torch for it."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    kinds = tuple(
        kind for kind in (getattr(torch, "Tensor", None), getattr(numpy, "ndarray", None)) if kind is not None
    )
    return bool(kinds) and isinstance(value, kinds) and value.ndim == 2


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)
