"""What each verb of `%titan` does, besides ``track``; one function per verb."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from titan_nb.notebook import verdicts
from titan_nb.notebook.memory_options import SESSION
from titan_nb.views import html, table, text, widgets
from titan_nb.views.bundle import table_bundle
from titan_nb.views.grid import grid_bundle
from titan_nb.views.simulated import simulated

if TYPE_CHECKING:
    from titan_nb.ledger import Totals
    from titan_nb.notebook.session import Session
    from titan_nb.records import Gap, Report

__all__ = ["FORMATS", "VERBS"]

STATUS_LETTERS = 96
FORMATS: dict[str, Callable[[Sequence[Report], Sequence[Gap], Totals | None], str]] = {
    "text": text.table,
    "html": html.table_html,
    "json": lambda reports, gaps, totals: table.to_json(reports),
    "csv": lambda reports, gaps, totals: table.to_csv(reports),
}
"""How `%titan report --format` writes the session."""


def on(session: Session, options: Any) -> None:
    """Measure every cell from now on, this one included, under the limits that are given."""
    magics = session.magics
    given = {name: getattr(options, name) for name in SESSION if getattr(options, name) is not None}
    before = {name: getattr(magics, name) for name in given}
    try:
        for name, value in given.items():
            setattr(magics, name, value)
        session.switch(on=True)
    except BaseException:  # What is refused must not be refused again at every cell.
        for name, value in before.items():
            setattr(magics, name, value)
        raise
    missing = session.notebook.start() if options.remember else None
    if missing is not None:
        sys.stderr.write(f"titan: {missing}\n")


def off(session: Session, options: Any) -> None:
    """Measure no cell any more but those that ask for it."""
    session.switch(on=False)
    session.notebook.stop()


def report(session: Session, options: Any) -> None:
    """Show the session as a table, or hand it over as text, HTML, JSON or CSV."""
    reports, totals = _shown(session), _totals(session)
    # Real gaps and sums beside simulated rows would differ from run to run.
    gaps = () if totals is None else session.ledger.gaps
    if options.format is None and options.output is None:
        session.presenter.publish(table_bundle(reports, gaps, totals))
        return
    written = FORMATS[options.format or "text"](reports, gaps, totals)
    if options.output is not None:
        session.shell.user_ns[options.output] = written
    else:
        sys.stdout.write(written.rstrip("\n") + "\n")


def status(session: Session, options: Any) -> None:
    """Say what can be measured here, by which means, and what is missing and how to get it."""
    title, header = "What titan can measure here", ("device", "grade", "how, or why not", "to improve")
    # Whole sentences do not fit in the columns of a terminal.
    rows, lines = [], [title]
    for one in session.tracker.meter.status():
        grade = one.grade if one.available else "not measured"
        means = f"{one.means}: " if one.means and not one.available else ""
        why = means + one.why.removeprefix("model: ")
        rows.append((one.device, grade, why, one.remedy))
        lines += ["", f"{one.device}: {grade}"]
        for clause in why.split("; "):
            lines += textwrap.wrap(clause, STATUS_LETTERS, initial_indent="    ", subsequent_indent="      ")
        if one.remedy:
            lines.append(f"    to improve: {one.remedy}")
    shown = len(header) if any(remedy for *_, remedy in rows) else len(header) - 1
    bundle = grid_bundle(title, header[:shown], [row[:shown] for row in rows])
    session.presenter.publish({**bundle, "text/plain": "\n".join(lines)})


def reset(session: Session, options: Any) -> None:
    """Forget the session's reports, gaps and totals."""
    session.ledger.reset()


def chat(session: Session, options: Any) -> None:
    """List, show, forget, compact, save or open the kernel's chat memory."""
    _memory("chat").chat(session, options)


def remember(session: Session, options: Any) -> None:
    """Store a text, or what a variable holds, in the chat memory."""
    sys.stdout.write(_memory("remember").remember(session, options) + "\n")


def recall(session: Session, options: Any) -> None:
    """Show what in the chat memory is most like a text or a vector."""
    _memory("recall").recall(session, options)


def who(session: Session, options: Any) -> None:
    """Show which name holds what memory."""
    _memory("who").who(session, options)


def free(session: Session, options: Any) -> None:
    """Give memory back: variables, outputs, what failed cells hold, the GPU's cache."""
    options.names = _names(options)
    _memory("free").free(session, options, session.relief.holders)


def spill(session: Session, options: Any) -> None:
    """Move idle tensors away, list what is away, or bring it back."""
    options.names = _names(options)
    _memory("spill").spill(session, options)


def dashboard(session: Session, options: Any) -> None:
    """Show the session's cells as a widget, or as a plain table where there are no widgets."""
    try:
        widget = widgets.dashboard(lambda: _shown(session), lambda: _totals(session))
    except ImportError:
        report(session, options)
    else:
        session.presenter.publish(widget._repr_mimebundle_())


def _shown(session: Session) -> tuple[Report, ...]:
    reports = session.ledger.reports
    if session.magics.display == "simulated":
        return tuple(simulated(one) for one in reports)
    return reports


def _totals(session: Session) -> Totals | None:
    return None if session.magics.display == "simulated" else session.ledger.totals


def dry_run(session: Session, body: str, options: Any) -> None:
    """Predict the peak of a cell without running it."""
    _memory("dry_run").dry_run(session, body, options)


def _memory(verb: str) -> Any:
    """Return the module of a verb, imported only now, so that loading the extension stays quick."""
    return importlib.import_module(f"titan_nb.notebook.{verb}")


def _names(options: Any) -> list[str]:
    return [name for name in (options.text, options.other, *options.more) if name is not None]


VERBS: dict[str, Callable[[Session, Any], None]] = {
    "on": on,
    "off": off,
    "report": report,
    "status": status,
    "reset": reset,
    "chat": chat,
    "remember": remember,
    "recall": recall,
    "dashboard": dashboard,
    "free": free,
    "spill": spill,
    "who": who,
    **verdicts.VERBS,
}
