"""The hard cells: kinds of cells from real notebooks that magics get wrong.

They are kept in ``hard_cells/KIND.txt``, because many of them are no Python. A line ``=== NAME | OPTION``
begins a cell; the options are

- ``bare``: the cell must begin on line 1, so its plain form has no comment there;
- ``not begun``: it cannot be parsed, so nothing runs;
- ``recorded``: it prints recorded history, which holds the first line as typed;
- ``interrupt: TEXT``: it is interrupted when it prints TEXT;
- ``answers: A, B``: what is typed when it asks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.kernel.cases import Case
from tests.kernel.cell import Cell

__all__ = ["HARD_CASES", "hard_cases"]

_HEADER = re.compile(r"(?m)^=== ([^|\n]+?)(?: \| (.+))?\n")


def hard_cases(path: Path) -> list[Case]:
    """Return the cells of one file, each as a case of its own."""
    _, *parts = _HEADER.split(path.read_text(encoding="utf-8"))
    return [
        _case(f"{path.stem}: {name}", body.removesuffix("\n"), options or "")
        for name, options, body in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    ]


def _case(name: str, body: str, options: str) -> Case:
    recorded = False
    cell: dict[str, Any] = {"body": body, "tracked": True}
    for option in options.split(" | ") if options else []:
        key, _, value = option.partition(": ")
        if key == "bare":
            cell["bare"] = True
        elif key == "not begun":
            cell["begun"] = False
        elif key == "recorded":
            recorded = True
        elif key == "interrupt":
            cell["interrupt_on"] = value
        elif key == "answers":
            cell["answers"] = tuple(value.split(", "))
        else:
            raise ValueError(f"{name}: unknown option {option!r}")
    return Case(name, (Cell(**cell),), recorded)


HARD_CASES = tuple(
    case for path in sorted((Path(__file__).parent / "hard_cells").glob("*.txt")) for case in hard_cases(path)
)
