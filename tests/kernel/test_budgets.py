"""Budgets in a real kernel: a cell is stopped as by Ctrl-C, the next one as asked, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.kernel.cell import Cell
from tests.kernel.kernel import Kernel
from tests.kernel.stacks import NEWEST, stack_python

# As if every cell drew 1 kW, so that it is known when a budget is spent.
SETUP = """\
%load_ext titan_nb
import time, titan_nb
from titan_nb.notebook import budgets
from titan_nb.budget import Amount
def _made_up(report):
    return dict.fromkeys(('energy', 'carbon', 'cost'), Amount(1000.0 * report.seconds))
budgets.spent_by = _made_up
"""

BUSY = "kept = 'before'\nprint('ready', flush=True)\nwhile True:\n    time.sleep(60)\n"
# ipykernel sees an interrupt of a cell that awaits when its loop wakes up next.
AWAITING = "import asyncio\nkept = 'awaiting'\nwhile True:\n    await asyncio.sleep(0.05)\n"
CAUGHT = "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    kept = 'caught'\nkept\n"


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with Kernel(stack_python(NEWEST)) as kernel:
        assert kernel.run(SETUP).status == "ok"
        yield kernel


def _next_cells_are_fine(kernel: Kernel) -> None:
    for number in range(5):
        observed = kernel.run(f"time.sleep(0.15)\n{number}")
        assert (observed.status, observed.result) == ("ok", str(number))
    assert kernel.listen(0.5) == []


@pytest.mark.parametrize("body", [BUSY, AWAITING])
def test_a_cell_over_its_budget_is_interrupted_as_by_ctrl_c(kernel: Kernel, body: str) -> None:
    begun = time.monotonic()
    observed = kernel.run(f"%%titan --max-energy 500J --action interrupt\n{body}")
    assert time.monotonic() - begun < 30
    assert observed.status == "error"
    assert observed.reply["ename"] in ("KeyboardInterrupt", "CancelledError")
    (shown,) = observed.shown
    assert shown["outcome"] == "interrupted"
    assert shown["budget"].startswith("stopped: ")
    assert shown["budget"].endswith(" of 500 J")
    (display,) = observed.reports
    assert shown["budget"] in display["data"]["text/plain"]
    assert kernel.run("kept").result in ("'before'", "'awaiting'")
    _next_cells_are_fine(kernel)


def test_an_interrupt_that_the_cell_catches_is_sent_once(kernel: Kernel) -> None:
    observed = kernel.run(f"%%titan --max-energy 500J --action interrupt\n{CAUGHT}time.sleep(1)\nkept")
    assert (observed.status, observed.result) == ("ok", "'caught'")
    assert observed.shown[0]["budget"].endswith("(it was interrupted, and caught that)")
    _next_cells_are_fine(kernel)


def test_no_interrupt_meets_a_cell_that_ends_about_when_it_is_due(kernel: Kernel) -> None:
    """The check comes every 0.25 s; the cells end around it, and what they raise is theirs."""
    for milliseconds in range(200, 300, 10):
        cell = f"%%titan --max-energy 1J --action interrupt\ntime.sleep({milliseconds / 1000})\n'done'"
        observed = kernel.run(cell)
        assert observed.result == "'done'" or observed.reply["ename"] == "KeyboardInterrupt"
        assert len(observed.shown) == 1
        plain = kernel.run("time.sleep(0.02)\n'plain'")
        assert (plain.status, plain.result) == ("ok", "'plain'")


def test_a_warning_comes_while_the_cell_runs_and_stops_nothing(kernel: Kernel) -> None:
    observed = kernel.run("%%titan --max-energy 500J\ntime.sleep(1.2)\n'done'")
    assert (observed.status, observed.result) == ("ok", "'done'")
    (shown,) = observed.shown
    assert shown["budget"].startswith("over budget: ")
    warnings = [line for line in observed.text.splitlines() if line.startswith("titan: over budget")]
    assert len(warnings) == 1


def test_the_next_cell_is_not_begun_once_the_sessions_budget_is_spent(kernel: Kernel) -> None:
    amount = "Amount(5200.0, 5000, 5400)"
    spent = f"budgets.spent_in = lambda *_: dict.fromkeys(('energy', 'carbon', 'cost'), {amount})"
    assert kernel.run("%titan budget --max-energy 5kJ --action stop-before").status == "ok"
    kernel.run("kept = 1")
    kernel.run(spent)
    refused = kernel.run("%%titan\nkept = 2")
    assert refused.status == "error"
    assert "5.2 kJ (5.0–5.4) of 5 kJ" in refused.reply["evalue"]
    # A cell that is not measured has no budget.
    assert kernel.run("kept").result == "1"
    kernel.run("%titan on")
    before = kernel.evaluate("len(titan_nb.ledger().reports)")
    always = kernel.run("kept = 3")
    assert (always.status, always.reply["ename"]) == ("error", "CellNotBegun")
    assert any("BudgetExceeded" in line for line in always.reply["traceback"])
    assert "site-packages" not in "".join(always.reply["traceback"])
    assert kernel.evaluate("len(titan_nb.ledger().reports)") == before
    assert kernel.run("%titan budget --off").status == "ok"
    again = kernel.run("kept")
    assert (again.status, again.result) == ("ok", "1")
    assert kernel.evaluate("get_ipython().ast_transformers") == []


def test_a_cell_in_a_thread_of_its_own_is_warned_and_told_why(kernel: Kernel) -> None:
    """What a subshell does: the cell runs in a thread that no interrupt reaches."""
    code = """\
import threading
from titan_nb.notebook.ctrl_c import CtrlC
seen = []
def other():
    seen.append(CtrlC(get_ipython(), threading.get_ident()).possible)
thread = threading.Thread(target=other)
thread.start()
thread.join()
seen, CtrlC(get_ipython(), threading.get_ident()).possible
"""
    assert kernel.run(Cell(code)).result == "([False], True)"
