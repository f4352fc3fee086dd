"""What each verb of `%titan` does, besides ``track``; one function per verb."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

import titan_nb
from titan_nb import units
from titan_nb.views import html, table, text, widgets
from titan_nb.views.bundle import table_bundle
from titan_nb.views.grid import grid_bundle
from titan_nb.views.simulated import simulated

if TYPE_CHECKING:
    from titan_nb.ledger import Totals
    from titan_nb.notebook.session import Session
    from titan_nb.records import Report

__all__ = ["FORMATS", "VERBS"]

DEFAULT_HITS = 5
SHOWN_LETTERS = 90
FORMATS: dict[str, Callable[[tuple[Report, ...]], str]] = {
    "text": text.table,
    "html": html.table_html,
    "json": table.to_json,
    "csv": table.to_csv,
}
"""How `%titan report --format` writes the session."""


def on(session: Session, options: Any) -> None:
    """Measure every cell from now on, this one included."""
    session.switch(on=True)


def off(session: Session, options: Any) -> None:
    """Measure no cell any more but those that ask for it."""
    session.switch(on=False)


def report(session: Session, options: Any) -> None:
    """Show the session as a table, or hand it over as text, HTML, JSON or CSV."""
    reports = _shown(session)
    if options.format is None and options.output is None:
        # Real gaps and sums beside simulated rows would differ from run to run.
        simulated_only = session.magics.display == "simulated"
        gaps = () if simulated_only else session.ledger.gaps
        bundle = table_bundle(reports, gaps=gaps, totals=_totals(session))
        session.presenter.publish(bundle)
        return
    written = FORMATS[options.format or "text"](reports)
    if options.output is not None:
        session.shell.user_ns[options.output] = written
    else:
        sys.stdout.write(written.rstrip("\n") + "\n")


def status(session: Session, options: Any) -> None:
    """Say what can be measured here, by which means, and what is missing and how to get it."""
    findings = session.tracker.meter.status()
    rows = [
        (one.device, "yes" if one.available else "no", one.means, one.why, one.remedy) for one in findings
    ]
    title = "What titan can measure here"
    bundle = grid_bundle(title, ("device", "measured", "by", "how, or why not", "to improve"), rows)
    # Whole sentences do not fit in the columns of a terminal.
    lines = [title]
    for one in findings:
        means = one.means if one.available else f"not measured ({one.means})"
        lines.append(f"\n{one.device}: {means}\n    {one.why.removeprefix('model: ')}")
        if one.remedy:
            lines.append(f"    to improve: {one.remedy}")
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
}
