from __future__ import annotations

import ast
from typing import Any

import pytest

from titan_nb.notebook.cells import Frame
from titan_nb.notebook.gate import CellNotBegun, Gate
from titan_nb.records import CellRef


def frame(number: int) -> Frame:
    return Frame(CellRef(number), None, {})


def call(magic: str, line: str) -> str:
    return f"get_ipython().run_line_magic({magic!r}, {line!r})"


def gate(current: list[Frame | None], asked: list[Frame], why: str | None = "spent") -> Gate:
    def refuse(one: Frame) -> str | None:
        asked.append(one)
        return why

    return Gate(lambda: current[-1], refuse)


@pytest.mark.parametrize(
    "cell",
    [
        "x = 1",
        call("titan", "track -q"),
        f"{call('titan', 'budget --off')}\nx = 1",
        call("time", "budget"),
        "get_ipython().run_line_magic(name, 'budget')",
        "print('titan')",
        "run_line_magic('titan', 'budget')",
    ],
)
def test_a_cell_that_does_something_is_rejected(cell: str) -> None:
    asked: list[Frame] = []
    current: list[Frame | None] = [None]
    one = gate(current, asked)
    current.append(frame(1))
    with pytest.raises(CellNotBegun, match="spent") as raised:
        one.visit(ast.parse(cell))
    assert raised.value._render_traceback_() == ["BudgetExceeded: spent"]
    assert asked == [current[-1]]


@pytest.mark.parametrize(
    "cell", [call("titan", "budget --off"), f"{call('titan', 'off')}\n{call('titan', 'report')}", ""]
)
def test_a_cell_that_only_speaks_to_titan_passes(cell: str) -> None:
    asked: list[Frame] = []
    current: list[Frame | None] = [None]
    one = gate(current, asked)
    current.append(frame(1))
    tree: Any = ast.parse(cell)
    assert one.visit(tree) is tree
    assert asked == []


def test_a_cell_that_has_begun_is_not_asked_again() -> None:
    asked: list[Frame] = []
    running = frame(1)
    current: list[Frame | None] = [running]
    one = gate(current, asked)  # set by the running cell itself
    tree = ast.parse("x = 1")
    one.visit(tree)
    assert asked == []
    current.append(frame(2))
    with pytest.raises(CellNotBegun):
        one.visit(tree)
    assert len(asked) == 1


def test_it_passes_while_nothing_is_spent_and_when_nobody_sees_the_cell() -> None:
    asked: list[Frame] = []
    current: list[Frame | None] = [None]
    one = gate(current, asked, why=None)
    tree = ast.parse("x = 1")
    assert one.visit(tree) is tree  # a silent execution
    assert asked == []
    current.append(frame(1))
    one.visit(tree)
    one.visit(tree)
    assert len(asked) == 1
