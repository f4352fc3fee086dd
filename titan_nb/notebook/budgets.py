"""The budgets of one shell: what is spent, and what happens when that reaches a limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from titan_nb.budget import KINDS, Amount, Budget, Kind, Passed
from titan_nb.errors import BudgetExceeded
from titan_nb.notebook.cells import Frame
from titan_nb.notebook.ctrl_c import CtrlC
from titan_nb.notebook.gate import Gate
from titan_nb.records import Cost, Energy, Outcome, Report

if TYPE_CHECKING:
    from titan_nb.ledger import Totals
    from titan_nb.tracker import Run, Tracker

__all__ = ["CHECK_SECONDS", "Budgets", "Spending", "spent_by", "spent_in"]

CHECK_SECONDS = 0.25
"""How often a running cell is compared with its budget."""

LIFT = "`%titan budget --off` lifts it, `%titan budget --max-energy ...` sets another"
NOT_MAIN = "it was not interrupted: it runs in a thread of its own, which no interrupt reaches"

Spending = Mapping[Kind, Amount]
Scope = Literal["cell", "session"]


@dataclass(slots=True)
class _Watch:
    """A running cell, and what was found out about its budgets so far."""

    frame: Frame
    run: Run
    ctrl_c: CtrlC
    before: Spending  # by the session, when the cell began: sums over a long session take their time
    stopped: bool = False
    told: set[Scope] = field(default_factory=set)


class Budgets:
    """Compares cells, while they run and when they end, with their own budget and the session's.

    Args:
        shell: The shell.
        tracker: Whose ledger holds what was spent, and whose sampler looks at running cells.
        current: Returns the outermost cell of this thread, or None.
        say: Says one line in the name of a running cell, from any thread.
        always: Says whether every cell is measured, so that the gate holds for every cell.

    Attributes:
        session: What all cells together may spend; None for no limit.
        fault: What went wrong when a running cell was looked at; None as a rule.
    """

    def __init__(
        self,
        shell: Any,
        tracker: Tracker,
        current: Callable[[], Frame | None],
        say: Callable[[Frame, str], None],
        always: Callable[[], bool],
    ) -> None:
        self._shell = shell
        self._tracker = tracker
        self._current = current
        self._say = say
        self._always = always
        self._lock = threading.Lock()
        self._watches: list[_Watch] = []
        # The cell of each thread that ended last, until its verdict.
        self._ended: dict[int, _Watch] = {}
        self._cancel: Callable[[], None] | None = None
        self._gate: Gate | None = None
        self._unchecked: set[tuple[Scope, Kind]] = set()
        self.fault: BaseException | None = None
        self.session: Budget | None = None

    def set(self, budget: Budget | None) -> None:
        """Set the budget of the session; None lifts it."""
        self.session = budget
        self._unchecked = {one for one in self._unchecked if one[0] != "session"}
        self._remove_gate()
        if budget is not None and budget.action == "stop-before":
            self._gate = Gate(self._current, self._refuse)
            self._shell.ast_transformers.append(self._gate)
        with self._lock:
            for watch in self._watches:
                watch.told.discard("session")
        frame = self._current()
        if frame is not None:
            self.watch(frame)

    def close(self) -> None:
        """Lift every budget, and look at nothing any more."""
        self.set(None)
        with self._lock:
            for watch in self._watches:
                watch.ctrl_c.close()
            self._watches.clear()
            self._ended.clear()
            self._schedule()

    def spent(self) -> dict[Kind, Amount]:
        """Return what the cells of the session have spent, those that are running left out."""
        ledger = self._tracker.ledger
        return spent_in(ledger.totals, ledger.reports)

    def check(self) -> None:
        """Do nothing if a further cell may be begun.

        Raises:
            BudgetExceeded: If the session's budget stops before the next cell, and is spent.
        """
        budget = self.session
        if budget is None or budget.action != "stop-before":
            return
        passed = budget.passed(self.spent())
        if passed:
            spent = ", ".join(map(str, passed))
            raise BudgetExceeded(f"the session's budget is spent: {spent}; this cell was not begun. {LIFT}")

    def watch(self, frame: Frame) -> None:
        """Look at a cell that has begun, or whose settings have changed, until `leave`."""
        run = frame.run
        if run is None:
            return
        wanted = self.session is not None or run.settings.budget is not None
        if not (wanted or self._watches):
            return  # as a rule, so it costs nothing
        with self._lock:
            # The end of an earlier cell of this thread may never have come.
            for one in self._watches:
                if one.frame is not frame and one.run.thread == run.thread:
                    one.ctrl_c.close()  # it would hit this cell
            self._watches = [w for w in self._watches if w.frame is frame or w.run.thread != run.thread]
            if wanted and not any(one.frame is frame for one in self._watches):
                ctrl_c = CtrlC(self._shell, run.thread)
                self._watches.append(_Watch(frame, run, ctrl_c, self.spent()))
            self._schedule()

    def leave(self, frame: Frame) -> None:
        """Send no interrupt to a cell any more: it has ended. To be called under a `Shield`."""
        if not self._watches:
            return
        with self._lock:
            for watch in self._watches:
                if watch.frame is frame:
                    watch.ctrl_c.close()
                    self._ended[watch.run.thread] = watch
            self._watches = [one for one in self._watches if one.frame is not frame]
            self._schedule()

    def verdict(self, frame: Frame, outcome: Outcome) -> str | None:
        """Return one line about a cell that has ended, or None if there is nothing to say."""
        watch = self._ended.pop(threading.get_ident(), None)
        if watch is None or watch.frame is not frame:
            return None
        here, lines = spent_by(watch.run.spent()), []
        for scope, budget, passed in self._passed(watch, here):
            lines.append(_line(scope, passed, watch, budget, outcome))
        for scope, budget in self._holding(watch):
            for kind in budget.unchecked(here):
                if (scope, kind) not in self._unchecked:
                    self._unchecked.add((scope, kind))
                    lines.append(f"the {scope}'s budget cannot be checked: the {kind} is unknown")
        return "; ".join(lines) or None

    def _schedule(self) -> None:
        """Look at running cells now and then exactly as long as there are such to be looked at."""
        wanted = any(
            budget is not None and budget.action != "stop-before"
            for watch in self._watches
            for budget in (self.session, watch.run.settings.budget)
        )
        if wanted and self._cancel is None:
            self._cancel = self._tracker.meter.sampler.every(CHECK_SECONDS, self._look)
        elif not wanted and self._cancel is not None:
            self._cancel()
            self._cancel = None

    def _look(self) -> None:
        """Compare the running cells with their budgets; on the sampler's thread."""
        with self._lock:
            watches = list(self._watches)
        try:
            for watch in watches:
                for scope, budget, passed in self._passed(watch, spent_by(watch.run.spent())):
                    if scope not in watch.told:
                        self._act(watch, scope, budget, passed)
        except Exception as error:
            self.fault = error

    def _act(self, watch: _Watch, scope: Scope, budget: Budget, passed: tuple[Passed, ...]) -> None:
        if budget.action == "interrupt" and watch.ctrl_c.possible:
            if watch.ctrl_c.send():
                watch.stopped = True
                watch.told |= {"cell", "session"}
        elif budget.action != "stop-before":
            watch.told.add(scope)
            self._say(watch.frame, _line(scope, passed, watch, budget))

    def _holding(self, watch: _Watch) -> list[tuple[Scope, Budget]]:
        """Return the budgets that hold for a cell."""
        both: tuple[tuple[Scope, Budget | None], ...] = (
            ("cell", watch.run.settings.budget),
            ("session", self.session),
        )
        return [(scope, budget) for scope, budget in both if budget is not None]

    def _passed(self, watch: _Watch, here: Spending) -> Iterator[tuple[Scope, Budget, tuple[Passed, ...]]]:
        """Yield the budgets of a cell that are spent, with what has been spent of them."""
        for scope, budget in self._holding(watch):
            spent = here
            if scope == "session":
                if budget.action == "warn" and budget.passed(watch.before):
                    continue  # the cell that passed it has said so
                spent = {kind: watch.before[kind].plus(here[kind]) for kind in KINDS}
            passed = budget.passed(spent)
            if passed:
                yield scope, budget, passed

    def _refuse(self, frame: Frame) -> str | None:
        if not self._always():
            return None  # the cells that ask for it have a line of ours, which raises
        try:
            self.check()
        except BudgetExceeded as error:
            self.leave(frame)
            if frame.run is not None:
                frame.run.drop()
                frame.run = None
            return str(error)
        return None

    def _remove_gate(self) -> None:
        if self._gate in self._shell.ast_transformers:
            self._shell.ast_transformers.remove(self._gate)
        self._gate = None


def spent_by(report: Report) -> dict[Kind, Amount]:
    """Return what one window has spent."""
    total, carbon, cost = report.total, report.carbon, report.cost
    partial = any(part.joules is None for part in report.energy.values())
    return {
        "energy": Amount(total.joules, total.low, total.high, partial),
        "carbon": Amount() if carbon is None else Amount(carbon.grams, carbon.low, carbon.high, partial),
        "cost": Amount()
        if cost is None
        else Amount(cost.amount, cost.low, cost.high, partial, cost.currency or ""),
    }


def spent_in(totals: Totals, reports: Sequence[Report]) -> dict[Kind, Amount]:
    """Return what the cells of a session have spent; the time between them is not charged to a budget.

    Args:
        totals: The sums of the session.
        reports: The reports that are kept: the totals have no sum of the cost.
    """
    if not totals.cells:
        return dict.fromkeys(KINDS, Amount(0.0))
    total = Energy.sum(totals.energy)
    return {
        "energy": Amount(total.joules, total.low, total.high, bool(totals.unknown)),
        "carbon": Amount(totals.grams, at_least=bool(totals.grams_unknown)),
        "cost": _cost(totals.cells, [one.cost for one in reports if one.parent is None]),
    }


def _cost(cells: int, costs: Sequence[Cost | None]) -> Amount:
    """Return the sum of the costs in the latest currency; some of the ``cells`` may have none, or another."""
    known = [one for one in costs if one is not None]
    alike = [one for one in known if one.currency == known[-1].currency]
    if not alike:
        return Amount()
    return Amount(
        sum(one.amount for one in alike),
        sum(one.low for one in alike),
        sum(one.high for one in alike),
        len(alike) < cells,
        alike[-1].currency or "",
    )


def _line(
    scope: Scope,
    passed: tuple[Passed, ...],
    watch: _Watch,
    budget: Budget,
    outcome: Outcome | None = None,
) -> str:
    spent = ", ".join(map(str, passed)) + ("" if scope == "cell" else " in this session")
    if watch.stopped and outcome == "interrupted":
        return f"stopped: {spent}"
    line = f"over budget: {spent}"
    if watch.stopped:
        line += " (it was interrupted, and caught that)"
    elif budget.action == "interrupt" and not watch.ctrl_c.possible:
        line += f" ({NOT_MAIN})"
    return line
