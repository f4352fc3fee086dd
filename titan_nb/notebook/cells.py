"""Which cell is running: a stack per thread, fed by ``pre_run_cell`` and ``post_run_cell``.

Subshells run cells in several threads at once, and ``%%capture``, ``%rerun`` or ``get_ipython().run_cell``
run cells inside cells. Only the outermost cell of a thread is the user's; only it may own a window.
"""

from __future__ import annotations

import ast
import sys
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from titan_nb.records import CellRef, Outcome
from titan_nb.tracker import Run, outcome_of

__all__ = ["Cells", "Ended", "Frame"]


@dataclass(slots=True)
class Frame:
    """The outermost cell of a thread while it runs.

    Attributes:
        cell: Its identity; the number in ``In [n]`` is known at the end.
        message_id: Id of the request that runs it; None without a kernel.
        parent: The request's whole header, for the one permitted update of a display.
        info: IPython's own record of the cell, by which its result is known again.
        run: Its window, once one is open.
        explicit: Whether the user asked for this cell, with ``%%titan`` or ``%titan track``.
        outputs: Names that receive the report.
        column: Which column of a DataFrame goes into the chat memory.
        notes: What was done for it before its window was opened.
        at_end: What is to be called when it has ended, the latest first.
        forecast_key: What its run goes by in the history of peaks, where that is asked for.
    """

    cell: CellRef
    message_id: str | None
    parent: dict[str, Any]
    info: Any = None
    run: Run | None = None
    explicit: bool = False
    outputs: list[str] = field(default_factory=list)
    column: str | None = None
    notes: list[str] = field(default_factory=list)
    at_end: list[Callable[[], None]] = field(default_factory=list)
    forecast_key: Any = None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a cell ended.

    Attributes:
        outcome: *ok*, *error* or *interrupted*.
        error: Name of the exception's class.
        value: The value of the last expression; None where there was none or it was suppressed.
        ran: False if no statement of the cell can have run, because it does not parse.
    """

    outcome: Outcome
    error: str | None
    value: object
    ran: bool


class Cells:
    """The cells that are running in one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        # As it is now: inside `%%capture` the shell has another one, which knows no request.
        self._publisher = shell.display_pub
        self._local = threading.local()
        self._number = 0
        self._lock = threading.Lock()

    def enter(self, info: Any) -> Frame | None:
        """Take note that a cell begins; return its frame if it is an outermost one."""
        stack = self._stack()
        header = self._header()
        if stack:
            stack.append(None)
            return None
        with self._lock:
            self._number += 1
            number = self._number
        frame = Frame(CellRef(number, None, self._cell_id(info)), header.get("msg_id"), header, info)
        stack.append(frame)
        return frame

    def lost(self) -> tuple[Frame, Ended] | None:
        """Return an earlier cell of this thread whose end never came, and what is known of its end.

        An interrupt between the cell and its ``post_run_cell`` takes that away.
        """
        stack = self._stack()
        if not stack or stack[0] is None or stack[0].message_id == self._header().get("msg_id"):
            return None
        frame = stack[0]
        stack.clear()
        result = getattr(self._shell, "last_execution_result", None)
        if result is None or getattr(result, "info", None) is not frame.info:
            # It did not even come as far as its result.
            return frame, Ended("interrupted", KeyboardInterrupt.__name__, None, ran=True)
        return self._left(frame, result)

    def leave(self, result: Any) -> tuple[Frame, Ended] | None:
        """Take note that a cell ended; return its frame and its end if it is an outermost one."""
        raw = getattr(getattr(result, "info", None), "raw_cell", None)
        # IPython fires no pre_run_cell for a blank cell, and none for the cell that loaded the extension.
        if isinstance(raw, str) and (not raw or raw.isspace()):
            return None
        stack = self._stack()
        frame = stack.pop() if stack else None
        return None if frame is None else self._left(frame, result)

    def current(self) -> Frame | None:
        """Return the outermost cell of this thread, also from inside a nested one."""
        stack = self._stack()
        return stack[0] if stack else None

    def _left(self, frame: Frame, result: Any) -> tuple[Frame, Ended]:
        if getattr(getattr(result, "info", None), "store_history", False):
            # Only now: whether the shell has counted the cell before it begins depends on its version.
            count = getattr(result, "execution_count", None)
            frame.cell = CellRef(frame.cell.number, count, frame.cell.cell_id)
        return frame, self._ended(result)

    def _stack(self) -> list[Frame | None]:
        # A nested cell is a None: it only has to be counted.
        try:
            stack: list[Frame | None] = self._local.stack
        except AttributeError:
            stack = self._local.stack = []
        return stack

    def _header(self) -> dict[str, Any]:
        header = getattr(self._publisher, "parent_header", None)
        return header if isinstance(header, dict) else {}

    def _cell_id(self, info: Any) -> str | None:
        cell_id = getattr(info, "cell_id", None)
        if cell_id is None and hasattr(self._shell, "get_parent"):
            parent = self._shell.get_parent()
            cell_id = ((parent or {}).get("metadata") or {}).get("cellId")
        return cell_id if isinstance(cell_id, str) else None

    def _ended(self, result: Any) -> Ended:
        if result is None:
            # ipykernel's path for a cell whose coroutine itself died: the exception is on its way out.
            outcome, name = outcome_of(sys.exc_info()[1] or KeyboardInterrupt)
            return Ended(outcome, name, None, ran=True)
        before = getattr(result, "error_before_exec", None)
        outcome, name = outcome_of(before or getattr(result, "error_in_exec", None))
        ran = before is None or self._parses(result.info.raw_cell)
        return Ended(outcome, name, getattr(result, "result", None), ran)

    def _parses(self, raw: str) -> bool:
        """Say whether IPython came as far as running statements: it compiles one after the other."""
        flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the user has seen them already
                compile(self._shell.transform_cell(raw), "<cell>", "exec", flags)
        except Exception:
            return False
        return True
