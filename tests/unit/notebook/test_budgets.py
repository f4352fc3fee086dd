"""Budgets in a shell of this process, with reports whose cost is made up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from tests.unit.notebook.shells import run, shown
from titan_nb.budget import KINDS, Amount, Budget
from titan_nb.notebook import budgets as budgets_module
from titan_nb.notebook.budgets import Budgets
from titan_nb.notebook.session import Session


@pytest.fixture
def session(titan: InteractiveShell) -> Session:
    return titan.magics_manager.registry["TitanMagics"]._session  # type: ignore[no-any-return]


@pytest.fixture
def budgets(session: Session) -> Budgets:
    return session.budgets


@pytest.fixture
def looks(session: Session, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Any]]:
    """The periodic jobs that budgets have asked for."""
    jobs: list[Callable[[], Any]] = []

    def every(seconds: float, job: Callable[[], Any]) -> Callable[[], None]:
        assert seconds == budgets_module.CHECK_SECONDS
        jobs.append(job)
        return lambda: jobs.remove(job)

    monkeypatch.setattr(session.tracker.meter.sampler, "every", every)
    return jobs


@pytest.fixture
def spend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set what every cell, and the session before it, has spent."""

    def set_(cell: float | None, session: float | None = 0.0) -> None:
        for name, value in (("spent_by", cell), ("spent_in", session)):
            amounts = dict.fromkeys(KINDS, Amount(value))
            monkeypatch.setattr(budgets_module, name, lambda *_, amounts=amounts: amounts)

    return set_


@pytest.mark.parametrize("where", ["--max-energy 5kJ", "--max-carbon 5kg --zone DE"])
def test_a_cell_over_its_budget_says_so_under_it(
    titan: InteractiveShell, spend: Callable[..., None], where: str
) -> None:
    spend(5200.0)
    (display,) = shown(titan, f"%%titan {where}\n1")
    line = display.data["text/plain"]
    assert "over budget: 5.2" in line
    assert titan_nb.ledger().reports[-1].budget in line


def test_a_cell_within_its_budget_says_nothing(titan: InteractiveShell, spend: Callable[..., None]) -> None:
    spend(4999.0)
    (display,) = shown(titan, "%%titan --max-energy 5kJ\n1")
    assert "budget" not in display.data["text/plain"]
    assert titan_nb.ledger().reports[-1].budget is None


def test_a_quiet_cell_over_its_budget_says_only_that(
    titan: InteractiveShell, spend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    spend(5200.0)
    run(titan, "%%titan -q --max-energy 5kJ\nx = 1")
    assert capsys.readouterr().err == "titan: over budget: 5.20 kJ of 5 kJ\n"


def test_what_cannot_be_checked_is_said_once_and_stops_nothing(
    titan: InteractiveShell, spend: Callable[..., None]
) -> None:
    spend(None, None)
    run(titan, "%titan budget --max-energy 1J --action stop-before")
    lines = []
    for _ in range(3):
        run(titan, "%%titan -q\nx = 1")
        lines.append(titan_nb.ledger().reports[-1].budget)
    assert lines == ["the session's budget cannot be checked: the energy is unknown", None, None]


def test_the_sessions_budget_counts_the_cells_before(
    titan: InteractiveShell, spend: Callable[..., None]
) -> None:
    spend(3000.0, 2200.0)
    run(titan, "%titan budget --max-energy 5kJ")
    run(titan, "%%titan -q\n1")
    assert titan_nb.ledger().reports[-1].budget == "over budget: 5.20 kJ of 5 kJ in this session"


def test_once_spent_no_tracked_cell_is_begun(titan: InteractiveShell, spend: Callable[..., None]) -> None:
    run(titan, "%titan budget --max-energy 5kJ --action stop-before")
    spend(0.0, 5200.0)
    titan.run_cell("%%titan\nx = 1")
    assert "x" not in titan.user_ns
    assert titan_nb.ledger().reports == ()
    run(titan, "x = 2")  # a cell that nobody measures has no budget
    assert titan.user_ns["x"] == 2


def test_with_titan_on_a_transformer_stands_at_the_gate(
    titan: InteractiveShell, spend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    run(titan, "%titan on")
    run(titan, "%titan budget --max-energy 5kJ --action stop-before")
    spend(0.0, 0.0)
    run(titan, "x = 1")
    spend(0.0, 5200.0)
    before = len(titan_nb.ledger().reports)
    capsys.readouterr()
    result = titan.run_cell("x = 2")
    assert not result.success
    assert titan.user_ns["x"] == 1
    out = capsys.readouterr().out
    assert out.startswith("BudgetExceeded: the session's budget is spent: 5.20 kJ of 5 kJ")
    assert "Traceback" not in out
    assert len(titan_nb.ledger().reports) == before
    assert not titan.run_cell("%%time\nx = 3").success
    assert not titan.run_cell("%titan track\nx = 3").success
    assert titan.user_ns["x"] == 1
    run(titan, "%titan budget")
    run(titan, "%titan budget --max-energy 9kJ --action stop-before")
    run(titan, "x = 4")
    assert titan.user_ns["x"] == 4


def test_a_cell_that_has_begun_is_not_rejected_half_way(
    titan: InteractiveShell, spend: Callable[..., None]
) -> None:
    spend(0.0, 0.0)
    run(titan, "%titan on")
    run(titan, "%titan budget --max-energy 5kJ --action stop-before")
    titan.user_ns["spend"] = lambda: spend(0.0, 5200.0)
    run(titan, "spend()\nget_ipython().run_cell('x = 1')\n%time y = 2")
    assert (titan.user_ns["x"], titan.user_ns["y"]) == (1, 2)


def test_the_gate_is_there_only_while_such_a_budget_is(titan: InteractiveShell) -> None:
    assert titan.ast_transformers == []
    run(titan, "%titan budget --max-energy 5kJ --action stop-before")
    assert len(titan.ast_transformers) == 1
    run(titan, "%titan budget --max-energy 6kJ --action stop-before")
    assert len(titan.ast_transformers) == 1
    run(titan, "%titan budget --max-energy 5kJ")
    assert titan.ast_transformers == []
    run(titan, "%titan budget --max-energy 5kJ --action stop-before")
    run(titan, "%titan budget --off")
    assert titan.ast_transformers == []
    run(titan, "%titan budget --max-energy 5kJ --action stop-before")
    run(titan, "%unload_ext titan_nb")
    assert titan.ast_transformers == []


def test_running_cells_are_looked_at_only_while_a_budget_wants_it(
    titan: InteractiveShell, looks: list[Callable[[], Any]], spend: Callable[..., None]
) -> None:
    spend(0.0)
    counts: list[int] = []
    titan.user_ns["look"] = lambda: counts.append(len(looks))
    for options in ("", "--max-energy 5kJ", "--max-energy 5kJ --action interrupt"):
        run(titan, f"%%titan -q {options}\nlook()")
        assert looks == []
    run(titan, "%titan budget --max-energy 5kJ --action stop-before")
    run(titan, "%%titan -q\nlook()")
    run(titan, "%titan budget --max-energy 5kJ")
    run(titan, "%%titan -q\nlook()")
    run(titan, "%titan budget --off")
    assert counts == [0, 1, 1, 0, 1]
    assert looks == []


def test_a_running_cell_is_interrupted_once(
    titan: InteractiveShell, looks: list[Callable[[], Any]], spend: Callable[..., None]
) -> None:
    spend(5200.0)
    titan.user_ns["look"] = lambda: _elsewhere(looks[0])
    cell = "%%titan -q --max-energy 5kJ --action interrupt\nkept = 1\nlook()\nlook()\nkept = 2"
    result = titan.run_cell(cell)
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert titan.user_ns["kept"] == 1
    report = titan_nb.ledger().reports[-1]
    assert (report.outcome, report.budget) == ("interrupted", "stopped: 5.20 kJ of 5 kJ")
    assert looks == []
    run(titan, "kept")


def test_a_cell_that_catches_the_interrupt_is_not_said_to_be_stopped(
    titan: InteractiveShell, looks: list[Callable[[], Any]], spend: Callable[..., None]
) -> None:
    spend(5200.0)
    titan.user_ns["look"] = lambda: _elsewhere(looks[0])
    body = "try:\n    look()\nexcept KeyboardInterrupt:\n    pass\nlook()\nx = 1"
    run(titan, f"%%titan -q --max-energy 5kJ --action interrupt\n{body}")
    report = titan_nb.ledger().reports[-1]
    caught = "over budget: 5.20 kJ of 5 kJ (it was interrupted, and caught that)"
    assert (report.outcome, report.budget) == ("ok", caught)


def test_a_cell_whose_end_never_came_is_not_looked_at_for_ever(
    titan: InteractiveShell, session: Session, looks: list[Callable[[], Any]], spend: Callable[..., None]
) -> None:
    spend(0.0)
    lost = session.cells.enter(None)
    assert lost is not None
    options = session.magics._parsed("track -q --max-energy 5kJ")
    lost.run = session.tracker.begin(lost.cell, session.magics.settings(options))
    session.budgets.watch(lost)
    assert len(looks) == 1
    (watch,) = session.budgets._watches
    session.cells._stack().clear()
    run(titan, "%%titan -q\n1")
    assert looks == []
    assert not watch.ctrl_c.send(), "it would interrupt the next cell"
    lost.run.drop()


def _elsewhere(job: Callable[[], Any]) -> None:
    """Run ``job`` in another thread, as the sampler does."""
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()


def test_a_cell_in_another_thread_is_warned_and_told_why(
    titan: InteractiveShell,
    session: Session,
    looks: list[Callable[[], Any]],
    spend: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spend(5200.0)
    said: list[str] = []
    monkeypatch.setattr(session.budgets, "_say", lambda frame, text: said.append(text))
    lines: list[str | None] = []

    def subshell() -> None:
        frame = session.cells.enter(None)
        assert frame is not None
        options = session.magics._parsed("track -q --max-energy 5kJ --action interrupt")
        frame.run = session.tracker.begin(frame.cell, session.magics.settings(options))
        session.budgets.watch(frame)
        looks[0]()
        looks[0]()
        session.budgets.leave(frame)
        lines.append(session.budgets.verdict(frame, "ok"))
        frame.run.drop()

    _elsewhere(subshell)
    why = "it was not interrupted: it runs in a thread of its own, which no interrupt reaches"
    assert lines == said == [f"over budget: 5.20 kJ of 5 kJ ({why})"]


def test_a_fault_while_looking_is_one_warning(
    titan: InteractiveShell,
    looks: list[Callable[[], Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken(report: object) -> None:
        raise RuntimeError("a fault of titan's own")

    monkeypatch.setattr(budgets_module, "spent_by", broken)
    titan.user_ns["look"] = lambda: looks[0]()
    run(titan, "%%titan -q --max-energy 5kJ\nlook()\nx = 1")
    assert titan.user_ns["x"] == 1
    assert capsys.readouterr().err.count("a fault of titan's own") == 1
    assert titan_nb.ledger().reports[-1].outcome == "ok"


def test_titan_budget_shows_what_is_spent_and_left(
    titan: InteractiveShell, spend: Callable[..., None]
) -> None:
    spend(0.0, 1500.0)
    (display,) = shown(titan, "%titan budget")
    assert "no budget is set" in display.data["text/plain"]
    (display,) = shown(titan, "%titan budget --max-energy 5kJ")
    lines = display.data["text/plain"].splitlines()
    assert lines[0] == "Spent by the session's cells (action: warn)"
    assert lines[4].split("  ")[0].startswith("energy")
    assert "1.50 kJ" in lines[4]
    assert "3.5 kJ" in lines[4]


def test_what_real_cells_have_spent_is_in_the_table(titan: InteractiveShell, budgets: Budgets) -> None:
    assert {amount.value for amount in budgets.spent().values()} == {0.0}
    run(titan, "%%titan -q --zone DE\nsum(range(1000))")
    spent = budgets.spent()
    total = titan_nb.ledger().reports[-1].total
    assert spent["energy"].value == total.joules
    assert (spent["carbon"].value is None) == (total.joules is None)
    assert budgets.session is None


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%titan budget --max-energy 5", "cannot use '5': give an energy such as 500J"),
        ("%titan budget --max-carbon 10g", "a limit in grams needs a carbon intensity"),
        ("%titan budget --max-cost 0.05", "a limit in money needs a price"),
        ("%titan budget --action warn", "--action needs a limit"),
        ("%titan budget --off --max-energy 5kJ", "give --off, or a budget; not both"),
        ("%titan budget --max-energy 5kJ --action kill", "invalid choice: 'kill'"),
        ("%titan report --max-energy 5kJ", "takes no --max-energy"),
        ("%%titan --max-carbon 10g\nx = 1", "a limit in grams needs a carbon intensity"),
        ("%%titan --max-energy 5kJ --action stop-before\nx = 1", "stop-before is for the session"),
        ("%%titan --off\nx = 1", "takes no --off"),
    ],
)
def test_a_budget_that_cannot_be_used_is_a_usage_error(
    titan: InteractiveShell, budgets: Budgets, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    result = titan.run_cell(line)
    assert not result.success
    captured = capsys.readouterr()
    assert message in captured.err + captured.out
    assert "x" not in titan.user_ns
    assert budgets.session is None


def test_a_budget_is_one_object_of_the_sessions(titan: InteractiveShell, budgets: Budgets) -> None:
    run(titan, "%titan budget --max-energy '2 Wh' --action interrupt")
    assert budgets.session == Budget(max_joules=7200.0, action="interrupt")
    run(titan, "%titan budget --off")
    assert budgets.session is None


def test_money_is_a_budget_where_there_is_a_price(titan: InteractiveShell, budgets: Budgets) -> None:
    run(titan, "%config TitanMagics.price_per_kwh = 0.30")
    run(titan, "%config TitanMagics.currency = 'EUR'")
    run(titan, "%titan budget --max-cost 1e-12")
    for _ in range(2):
        run(titan, "%%titan -q\nsum(range(100_000))")
    first, second = titan_nb.ledger().reports[-2:]
    assert first.cost is not None
    assert first.budget is not None
    assert " EUR of 1e-12 EUR in this session" in first.budget
    assert second.budget is None  # the cell that passed the limit has said so
    both = [one.cost.amount for one in titan_nb.ledger().reports if one.cost is not None]
    cost = budgets.spent()["cost"]
    assert (cost.value, cost.currency, cost.at_least) == (sum(both), "EUR", False)
    run(titan, "%config TitanMagics.currency = 'USD'")
    run(titan, "%%titan -q\n1")
    cost = budgets.spent()["cost"]
    assert (cost.currency, cost.at_least) == ("USD", True)
