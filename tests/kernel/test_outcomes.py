"""However a cell ends, it ends as plain, and leaves exactly one report that says how."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.kernel.cell import MODES, Cell
from tests.kernel.pair import Pair, paired
from tests.kernel.stacks import NEWEST, stack_python

LOOP = """\
import time
print('ready', flush=True)
while True:
    time.sleep(60)
"""

ASYNC_LOOP = """\
import asyncio
print('ready', flush=True)
while True:
    await asyncio.sleep(0.05)
"""

OUTCOMES = {
    "value": (Cell("6 * 7"), ("ok", None)),
    "await": (Cell("import asyncio\nawait asyncio.sleep(0.01, 'awaited')"), ("ok", None)),
    "%%time below": (Cell("%%time\nsum(range(10))", bare=True), ("ok", None)),
    "%%time above": (Cell("sum(range(10))", above="%%time"), ("ok", None)),
    "shell command": (Cell("!echo hello"), ("ok", None)),
    "failing shell command": (Cell("!false"), ("ok", None)),
    "error": (Cell("print('before')\n1 / 0"), ("error", "ZeroDivisionError")),
    "error while awaiting": (
        Cell("import asyncio\nawait asyncio.sleep(0)\n1 / 0"),
        ("error", "ZeroDivisionError"),
    ),
    "error below %%time": (Cell("x = 1\n1 / 0", above="%%time"), ("error", "ZeroDivisionError")),
    "error of an unknown magic": (Cell("%nosuchmagic"), ("error", "UsageError")),
    "own BaseException": (Cell("class Own(BaseException): ...\nraise Own"), ("error", "Own")),
    "sys.exit": (Cell("import sys\nsys.exit(1)"), ("error", "SystemExit")),
    "Ctrl-C in a loop": (Cell(LOOP, interrupt_on="ready"), ("interrupted", "KeyboardInterrupt")),
    "Ctrl-C in an async loop": (Cell(ASYNC_LOOP, interrupt_on="ready"), ("interrupted", "CancelledError")),
    "Ctrl-C below %%time": (
        Cell(LOOP, above="%%time", interrupt_on="ready"),
        ("interrupted", "KeyboardInterrupt"),
    ),
    "KeyboardInterrupt raised": (Cell("raise KeyboardInterrupt"), ("interrupted", "KeyboardInterrupt")),
    "Ctrl-C caught": (
        Cell("try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    'caught'"),
        ("ok", None),
    ),
}


@pytest.fixture(scope="module", params=MODES)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with paired(stack_python(NEWEST), request.param) as pair:
        yield pair


@pytest.mark.parametrize("name", OUTCOMES)
def test_one_report_with_the_outcome(pair: Pair, name: str) -> None:
    cell, outcome = OUTCOMES[name]
    cell = replace(cell, tracked=True)
    if cell.bare and pair.mode == "%titan track":
        # No cell magic can stand below a line: the cell fails as plain, and the report says so.
        outcome = ("error", "UsageError")
    (observed,), reports = pair.same_typed(cell)
    assert reports == [outcome]
    if pair.mode != "%titan on":  # there, a line is shown only under cells of a second or more
        assert [(shown["outcome"], shown["error"]) for shown in observed.shown] == [outcome]


def test_error_in_the_middle_of_run_all(pair: Pair) -> None:
    """The cells behind it are aborted and have no report."""
    bodies = ["x = 1", "import time\ntime.sleep(0.3)\n1 / 0", "print('never')", "print('nor this')"]
    observed, reports = pair.same_typed(*(Cell(body, tracked=True) for body in bodies))
    assert [one.status for one in observed] == ["ok", "error", "aborted", "aborted"]
    assert reports == [("ok", None), ("error", "ZeroDivisionError")]
    again, reports = pair.same_typed(Cell("'goes on'", tracked=True))
    assert [one.status for one in again] == ["ok"]
    assert reports == [("ok", None)]


def test_interrupt_in_the_middle_of_run_all(pair: Pair) -> None:
    cells = [Cell(LOOP, tracked=True, interrupt_on="ready"), Cell("print('never')", tracked=True)]
    observed, reports = pair.same_typed(*cells)
    assert [one.status for one in observed] == ["error", "aborted"]
    assert reports == [("interrupted", "KeyboardInterrupt")]


def test_cell_that_cannot_be_parsed_is_not_begun(pair: Pair) -> None:
    for body in ("x = = 1", "if True:\nx = 1", "f("):
        _, reports = pair.same_typed(Cell(body, tracked=True))
        assert reports == []


def test_always_on_shows_only_long_cells(pair: Pair) -> None:
    short, _ = pair.same_typed(Cell("x = 1", tracked=True))
    long, _ = pair.same_typed(Cell("import time\ntime.sleep(1.1)", tracked=True))
    assert [len(short[0].reports), len(long[0].reports)] == ([0, 1] if pair.mode == "%titan on" else [1, 1])
    assert long[0].shown[0]["seconds"] >= 1.1


def test_form_of_the_display(pair: Pair) -> None:
    """One display, at the end, with the report in three forms."""
    kernel = pair.tracked
    kernel.run("%config TitanMagics.min_seconds = 0")
    observed = kernel.run("%titan track\n'a value'")
    (display,) = observed.reports
    assert display["type"] == "display_data"
    assert set(display["data"]) == {"text/plain", "text/html", "application/vnd.titan.report+json"}
    assert observed.result == "'a value'"
    kernel.run("%config TitanMagics.min_seconds = 1")
