"""`--chat ID` and `%titan remember`: what goes from the notebook into the chat memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

import titan_nb
from titan_nb.errors import ChatError
from titan_nb.notebook.cells import Ended, Frame
from titan_nb.notebook.storable import STORABLE, kind, storable
from titan_nb.tracker import Run

if TYPE_CHECKING:
    from titan_nb.notebook.session import Session

__all__ = ["NOTES", "remember", "store"]

NOTES = "notes"
"""The chat that `%titan remember` uses unless another one is named."""


def store(session: Session, run: Run, frame: Frame, ended: Ended) -> str:
    """Store the last value of a cell under the chat id of its settings; return one line that says so.

    What cannot be stored, and a cell that failed, store nothing, and the line says why.
    """
    chat_id = str(run.settings.chat)
    nothing = f"nothing stored under {chat_id!r}"
    if ended.outcome != "ok":
        return f"{nothing}: the cell did not finish"
    number = frame.cell.number if _simulated(session) else frame.cell.execution_count or frame.cell.number
    try:
        rows = storable(ended.value, frame.column)
        if rows is None:
            run.notes.append(STORABLE)
            return f"{nothing}: {kind(ended.value)}"
        return _stored(chat_id, rows, {"cell": number})
    except ChatError as error:
        return f"{nothing}: {error}"
    except KeyboardInterrupt:
        return f"{nothing}: interrupted"
    except BaseException as error:
        session.warn("the chat memory failed", error)
        return f"{nothing}: {type(error).__name__}"


def remember(session: Session, options: Any) -> str:
    """Store a text, or what a variable holds; return one line that says so.

    Raises:
        UsageError: If there is no such variable, or it holds nothing that can be stored.
        ChatError: If the memory refuses it.
    """
    text = options.text
    if text is None:
        raise UsageError('say what to remember: %titan remember "a text" or %titan remember NAME')
    if text[:1] in ('"', "'"):
        value: object = text[1:-1]
    elif text in session.shell.user_ns:
        value = session.shell.user_ns[text]
    else:
        raise UsageError(f'there is no variable {text}; put a text in quotes: %titan remember "{text}"')
    rows = storable(value, options.column)
    if rows is None:
        raise UsageError(f"{text} is of type {type(value).__name__}; {STORABLE}")
    return _stored(NOTES if options.chat is None else options.chat, rows, _this_cell(session))


def _stored(chat_id: str, rows: Any, metadata: dict[str, Any] | None) -> str:
    memory = titan_nb.chat_memory()
    decides = memory.policy is not None
    before = len(memory) if decides else 0
    count = len(memory.add(chat_id, rows, metadata=metadata))
    if count == 0:
        return f"nothing stored under {chat_id!r}: the table has no rows"
    kept = len(memory) - before if decides else count
    rows_text = f"{count} row{'s' * (count != 1)} under {chat_id!r}"
    return f"stored {rows_text}" if kept == count else f"stored {kept} of {rows_text}, as the policy decided"


def _this_cell(session: Session) -> dict[str, Any] | None:
    """Return the number of the running cell as metadata; None where it gets no number."""
    frame = session.cells.current()
    if frame is None:
        return None
    if _simulated(session):
        return {"cell": frame.cell.number}
    if not getattr(frame.info, "store_history", False):
        return None
    # Newer shells count a cell when it begins, older ones when it ends; its input is kept when it begins.
    return {"cell": len(session.shell.history_manager.input_hist_parsed) - 1}


def _simulated(session: Session) -> bool:
    """Say whether cells go by their number in the session, as in simulated reports: prompts may differ."""
    return bool(session.magics.display == "simulated")
