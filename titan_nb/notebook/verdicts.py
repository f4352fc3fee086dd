"""The verbs of `%titan` that judge figures: ``budget``, ``compare`` and ``audit``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

import titan_nb
from titan_nb import units
from titan_nb.budget import KINDS, limit_of, text_of
from titan_nb.notebook.options import budget_of, unquoted
from titan_nb.records import Report
from titan_nb.views.grid import grid_bundle

if TYPE_CHECKING:
    from titan_nb.audit import Opinion
    from titan_nb.notebook.budgets import Budgets
    from titan_nb.notebook.session import Session
    from titan_nb.repeat import Repeated

__all__ = ["VERBS"]


def budget(session: Session, options: Any) -> None:
    """Set or lift the session's budget, or show what is spent of it."""
    wanted = budget_of(options)
    if options.off:
        if wanted is not None:
            raise UsageError("give --off, or a budget; not both")
        session.budgets.set(None)
        return
    if wanted is not None:
        # The settings refuse a limit that could not be compared with anything.
        session.magics.settings().replace(budget=wanted)
        session.budgets.set(wanted)
    session.presenter.publish(_budget_bundle(session.budgets))


def compare(session: Session, options: Any) -> None:
    """Say of two reports which one used less, or that nobody can tell."""
    if options.text is None or options.other is None:
        raise UsageError("say what to compare: %titan compare A B, each a number, a label or a variable")
    compared = titan_nb.compare(_measured(session, options.text), _measured(session, options.other))
    if options.output is not None:
        session.shell.user_ns[options.output] = compared
        return
    rows = [(name, *getattr(compared, name).texts) for name in ("energy", "time", "carbon")]
    title = f"{compared.second} against {compared.first}"
    header = ("of", "verdict", "ratio", "interval", "why")
    session.presenter.publish(grid_bundle(title, header, rows, compared.notes))


def audit(session: Session, options: Any) -> None:
    """Start eco2ai as a second opinion on the session, or stop it and show both figures."""
    # Here, so that loading the extension stays quick.
    from titan_nb.audit import Audit

    if options.text == "start":
        if session.audit is not None:
            raise UsageError("eco2ai is running already: %titan audit stop ends it")
        zone = options.zone or session.magics.zone
        if not zone:
            raise UsageError("eco2ai needs a country, or it asks the network: %titan audit start --zone DE")
        second = Audit(session.ledger, zone, options.region)
        second.start()
        session.audit = second
    elif options.text == "stop":
        running, session.audit = session.audit, None
        if running is None:
            raise UsageError("eco2ai is not running: %titan audit start --zone DE starts it")
        session.presenter.publish(_opinion_bundle(running.stop()))
    else:
        raise UsageError("say start or stop: %titan audit start --zone DE, later %titan audit stop")


def _budget_bundle(budgets: Budgets) -> dict[str, Any]:
    spent, limits = budgets.spent(), {} if budgets.session is None else budgets.session.limits
    rows = []
    for kind in KINDS:
        amount, limit = spent[kind], limits.get(kind)
        if limit is None:
            rows.append((kind, text_of(kind, amount), "no limit", ""))
            continue
        left = "unknown" if amount.value is None else limit_of(kind, max(0.0, limit - amount.value))
        rows.append((kind, text_of(kind, amount), limit_of(kind, limit), left))
    action = "no budget is set" if budgets.session is None else f"action: {budgets.session.action}"
    title = f"Spent by the session's cells ({action})"
    return grid_bundle(title, ("of", "spent", "limit", "left"), rows)


def _opinion_bundle(opinion: Opinion) -> dict[str, Any]:
    cells, gaps = opinion.cells, opinion.gaps
    carbon = units.grams(opinion.cell_grams)
    rows = [
        ("eco2ai, all of the stretch", units.joules(opinion.joules), units.grams(opinion.grams)),
        ("titan, cells", units.joules(cells.joules, cells.low, cells.high), carbon),
        ("titan, between the cells", units.joules(gaps.joules, gaps.low, gaps.high), ""),
    ]
    title = f"Two opinions on {units.seconds(opinion.seconds)}"
    return grid_bundle(title, ("whose", "energy", "CO2e"), rows, ("why they differ", *opinion.reasons))


def _measured(session: Session, name: str) -> Report | Repeated:
    """Return the report of that number, the variable of that name, or the latest report of that label."""
    reports = session.ledger.reports
    if name.isdecimal():
        found = next((one for one in reports if one.number == int(name)), None)
        if found is None:
            raise UsageError(f"there is no report {name} in the session: %titan report lists them")
        return found
    value = session.shell.user_ns.get(name)
    if isinstance(value, (Report, titan_nb.Repeated)):
        return value
    label = unquoted(name)
    for one in reversed(reports):
        if one.label == label:
            return one
    raise UsageError(f"{name} is neither the number or the label of a report nor a variable that holds one")


VERBS: Mapping[str, Callable[[Session, Any], None]] = {"budget": budget, "compare": compare, "audit": audit}
