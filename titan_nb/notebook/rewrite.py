"""`%%titan ARGS` + body becomes `%titan track ARGS` on line 1 + the body on its own lines.

IPython then runs the body as the ordinary cell it is: await, other magics, tracebacks, ``_`` and ``Out``
are its business, not ours. The function is pure, because ipykernel transforms each cell twice.

With ``--dry-run`` nothing of the body may run: it becomes a text, the argument of `%titan dry-run`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable

__all__ = ["TRACK_CALL", "rewriter", "transformed", "unpacked"]

MAGIC = "titan"
_CELL_CALL = f"get_ipython().run_cell_magic({MAGIC!r}, "
TRACK_CALL = f"get_ipython().run_line_magic({MAGIC!r}, "
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)*")
_QUOTED_OR_DRY_RUN = re.compile(r"""("[^"]*"|'[^']*')|(?<!\S)--dry-run(?!\S)""")
_STRING = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_DRY_RUN_LINE = re.compile(rf"\s*dry-run\s+({_STRING})(?!\S)(.*)", re.DOTALL)
_EXPANDED = {"{": "\\x7b", "}": "\\x7d", "$": "\\x24"}
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
        others = _without_dry_run(options)
        if others is not None:
            return [f"{TRACK_CALL}{_packed(others, body)!r})\n"]
        track = f"{TRACK_CALL}{f'track {options}'.rstrip()!r})"
        return _joined(track, transformed(body, transform_cell)).splitlines(keepends=True)

    return rewrite_titan_cell


def transformed(body: str, transform_cell: Callable[[str], str]) -> str:
    """Return the body of a cell as Python, its lines where they were."""
    rest = _BLANK_LINES.sub("", body)
    # IPython drops the blank lines above a cell; putting them back keeps the numbers of the rest.
    blank = "\n" * (body.count("\n") - rest.count("\n"))
    return blank + (transform_cell(rest) if rest.strip() else "")


def unpacked(line: str) -> tuple[str, str | None]:
    """Return the line of a magic without the body that it carries, and that body or None."""
    found = _DRY_RUN_LINE.fullmatch(line)
    if found is None:
        return line, None
    return f"dry-run{found[2]}", ast.literal_eval(found[1])


def _packed(options: str, body: str) -> str:
    """Return the line of a magic that carries ``body``.

    IPython evaluates what stands in braces or behind a dollar in such a line: these three are spelt out.
    """
    literal = repr(body)
    for sign, escape in _EXPANDED.items():
        literal = literal.replace(sign, escape)
    return f"dry-run {literal} {options}".rstrip()


def _without_dry_run(options: str) -> str | None:
    """Return the other options, or None if ``--dry-run`` is not one of them."""
    found = [match for match in _QUOTED_OR_DRY_RUN.finditer(options) if match[1] is None]
    if not found:
        return None
    others = _QUOTED_OR_DRY_RUN.sub(lambda match: match[1] or "", options)
    return others.strip()


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
