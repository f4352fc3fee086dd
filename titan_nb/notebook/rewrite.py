"""`%%titan ARGS` + body becomes `%titan track ARGS` on line 1 + the body on its own lines.

IPython then runs the body as the ordinary cell it is: await, other magics, tracebacks, ``_`` and ``Out``
are its business, not ours. The function is pure, because ipykernel transforms each cell twice.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

__all__ = ["TRACK_CALL", "rewriter"]

MAGIC = "titan"
_CELL_CALL = f"get_ipython().run_cell_magic({MAGIC!r}, "
TRACK_CALL = f"get_ipython().run_line_magic({MAGIC!r}, "
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)*")
_TRACK_LINE = re.compile(re.escape(TRACK_CALL) + r"""['"]track\b""")


def rewriter(transform_cell: Callable[[str], str]) -> Callable[[list[str]], list[str]]:
    """Return the transformer for ``shell.input_transformers_post``.

    Args:
        transform_cell: The shell's own transformation; it is asked for the body, so that magics stack.
    """

    def rewrite_titan_cell(lines: list[str]) -> list[str]:
        if lines and _TRACK_LINE.match(lines[0]):
            return _joined(lines[0].rstrip("\n"), "".join(lines[1:])).splitlines(keepends=True)
        call = _cell_call("".join(lines))
        if call is None:
            return lines
        options, body = call
        track = f"{TRACK_CALL}{f'track {options}'.rstrip()!r})"
        rest = _BLANK_LINES.sub("", body)
        transformed = transform_cell(rest) if rest.strip() else ""
        # IPython drops the blank lines above a cell; putting them back keeps the numbers of the rest.
        blank = "\n" * (body.count("\n") - rest.count("\n"))
        return _joined(track, blank + transformed).splitlines(keepends=True)

    return rewrite_titan_cell


def _cell_call(text: str) -> tuple[str, str] | None:
    """Return the options and the body if ``text`` is nothing but IPython's call of our cell magic."""
    if not text.startswith(_CELL_CALL):
        return None
    try:
        (statement,) = ast.parse(text).body
        name, options, body = (ast.literal_eval(argument) for argument in statement.value.args)  # type: ignore[attr-defined]
    except (SyntaxError, ValueError, AttributeError):
        return None
    return (options, body) if name == MAGIC else None


def _joined(track: str, body: str) -> str:
    """Return ``track`` and ``body`` as one cell.

    A ``from __future__`` import must stay the first statement for a cell that also awaits: IPython compiles
    the whole cell to see whether it needs a loop. There the call follows the last such import.
    """
    place = _after_future_imports(body)
    if place is None:
        return f"{track}\n{body}"
    lines = body.splitlines(keepends=True)
    line, column = place
    encoded = lines[line - 1].encode()
    lines[line - 1] = f"{encoded[:column].decode()}; {track}{encoded[column:].decode()}"
    return "# titan\n" + "".join(lines)


def _after_future_imports(body: str) -> tuple[int, int] | None:
    """Return line and UTF-8 column just behind the last ``from __future__`` import, if there is one."""
    if "__future__" not in body:
        return None
    try:
        statements = ast.parse(body).body
    except (SyntaxError, ValueError):
        return None
    place = None
    for position, statement in enumerate(statements):
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            place = (statement.end_lineno or statement.lineno, statement.end_col_offset or 0)
        elif not (position == 0 and isinstance(statement, ast.Expr)):
            break
    return place
