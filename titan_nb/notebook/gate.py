"""Do not begin a cell: under `%titan on` there is no line of ours in it that could raise."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from IPython.core.error import InputRejected

from titan_nb.errors import BudgetExceeded

if TYPE_CHECKING:
    from titan_nb.notebook.cells import Frame

__all__ = ["CellNotBegun", "Gate"]


class CellNotBegun(BudgetExceeded, InputRejected):  # type: ignore[misc]  # IPython reaches mypy as Any
    """A cell was turned away before its first statement, because the session's budget is spent."""

    def _render_traceback_(self) -> list[str]:
        # IPython's own frames would say nothing to the user.
        return [f"{BudgetExceeded.__name__}: {self}"]


class Gate:
    """An AST transformer that lets a cell pass, or rejects it before anything of it runs.

    Cells that only speak to titan always pass, so that the budget can be raised or lifted. What a cell that
    has begun compiles later, as with ``%%time`` or ``run_cell``, is part of that cell and passes as well.

    Args:
        current: Returns the outermost cell of this thread, or None.
        refuse: Returns why the next cell must not be begun, or None if it may be.
    """

    def __init__(self, current: Callable[[], Frame | None], refuse: Callable[[Frame], str | None]) -> None:
        self._current = current
        self._refuse = refuse
        self._begun = threading.local()
        self._begun.frame = current()

    def visit(self, tree: ast.Module) -> ast.Module:
        """Return ``tree`` as it is.

        Raises:
            CellNotBegun: If the cell must not be begun.
        """
        frame = self._current()
        if frame is None or frame is getattr(self._begun, "frame", None):
            return tree
        if not _speaks_to_titan(tree):
            why = self._refuse(frame)
            if why is not None:
                raise CellNotBegun(why)
        self._begun.frame = frame
        return tree


def _speaks_to_titan(tree: ast.AST) -> bool:
    """Say whether a cell holds nothing but lines of `%titan`."""
    statements = getattr(tree, "body", None)
    return isinstance(statements, list) and all(map(_is_verb, statements))


def _is_verb(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr="run_line_magic"), args=[magic, line])):
            match magic, line:
                case ast.Constant("titan"), ast.Constant(str(words)):
                    return words.split()[:1] != ["track"]
    return False
