"""What each verb of `%titan` does, besides ``track``; one function per verb."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

import titan_nb
from titan_nb import units
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

DEFAULT_HITS = 5
SHOWN_LETTERS = 90
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


def off(session: Session, options: Any) -> None:
    """Measure no cell any more but those that ask for it."""
    session.switch(on=False)


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


def list_chats(session: Session, options: Any) -> None:
    """List the chats of the kernel's chat memory."""
    stats = titan_nb.chat_memory().stats()
    rows = [
        (_beginning(name), str(part.rows), str(part.dimension), units.byte_size(part.bytes), part.last_added)
        for name, part in stats.per_chat.items()
    ]
    header = ("chat", "rows", "dimension", "size", "last added (UTC)")
    session.presenter.publish(grid_bundle(f"Chat memory on {stats.device}", header, rows))


def recall(session: Session, options: Any) -> None:
    """Show the stored rows nearest to a text, or to the vector of that name."""
    if options.text is None:
        raise UsageError('say what to recall: %titan recall "a text" or %titan recall NAME')
    memory = titan_nb.chat_memory()
    if options.chat is not None and options.chat not in memory:
        known = ", ".join(map(repr, memory.chats())) or "none yet"
        raise UsageError(f"no chat {options.chat!r}; there are: {known}")
    hits = memory.search(_query(session, options.text), k=options.k or DEFAULT_HITS, chat_id=options.chat)
    if options.output is not None:
        session.shell.user_ns[options.output] = hits
        return
    rows = [
        (
            f"{hit.score:.3f}",
            _beginning(hit.chat_id),
            str(hit.id),
            _beginning(hit.text or ""),
            _words(hit.metadata),
        )
        for hit in hits
    ]
    title = f"Nearest to {options.text!r}"
    session.presenter.publish(grid_bundle(title, ("score", "chat", "id", "text", "metadata"), rows))


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


def _query(session: Session, text: str) -> object:
    """Return the vector called ``text`` if there is one, else the text itself, without its quotes."""
    if text[:1] in ('"', "'"):
        return text[1:-1]
    value = session.shell.user_ns.get(text)
    # IPython's own names, such as exit, are no vectors.
    return text if value is None or callable(value) else value


def dry_run(session: Session, body: str, options: Any) -> None:
    """Predict the peak of a cell without running it."""
    _memory("dry_run").dry_run(session, body, options)


def _memory(verb: str) -> Any:
    """Return the module of a verb, imported only now, so that loading the extension stays quick."""
    return importlib.import_module(f"titan_nb.notebook.{verb}")


def _names(options: Any) -> list[str]:
    return [name for name in (options.text, options.other, *options.more) if name is not None]


def _beginning(text: str) -> str:
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"


def _words(metadata: Mapping[str, Any] | None) -> str:
    return ", ".join(f"{key} {value}" for key, value in (metadata or {}).items())


VERBS: dict[str, Callable[[Session, Any], None]] = {
    "on": on,
    "off": off,
    "report": report,
    "status": status,
    "reset": reset,
    "chat": list_chats,
    "recall": recall,
    "dashboard": dashboard,
    "free": free,
    "spill": spill,
    "who": who,
    **verdicts.VERBS,
}
