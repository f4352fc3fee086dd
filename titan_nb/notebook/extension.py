"""Loading and unloading: every step registers its own undo, so that nothing is left behind."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from titan_nb import tracker
from titan_nb.notebook.complete import matcher
from titan_nb.notebook.hits import hits_bundle
from titan_nb.notebook.magics import ALLOWED, TitanMagics
from titan_nb.notebook.rewrite import rewriter
from titan_nb.notebook.session import Session
from titan_nb.records import Report
from titan_nb.views.bundle import report_bundle

if TYPE_CHECKING:
    from titan_nb.chat import Hits

__all__ = ["load", "unload"]

HITS = ("titan_nb.chat.records", "Hits")
"""By name: the chat room is imported when it is first used."""

_loaded: dict[Any, contextlib.ExitStack] = {}


def load(shell: Any) -> None:
    """Load titan into ``shell``; a second call does nothing.

    Everything is built before anything is registered, and a failure half-way takes back what was done.
    """
    if shell in _loaded:
        return
    with contextlib.ExitStack() as undo:
        session = Session(shell, tracker.default())
        configurables = list(shell.configurables)
        undo.callback(_restore, shell.configurables, configurables)
        session.magics = TitanMagics(shell, session)
        undo.callback(session.close)

        _register_magics(shell, session.magics, undo)
        for event in ("pre_run_cell", "post_run_cell"):
            callback = getattr(session, event)
            shell.events.register(event, callback)
            undo.callback(shell.events.unregister, event, callback)
        _append(shell.input_transformers_post, rewriter(shell.transform_cell), undo)
        complete = matcher(session.magics.titan.parser, ALLOWED)
        if complete is not None:
            _append(shell.Completer.custom_matchers, complete, undo)
        formatter = shell.display_formatter.mimebundle_formatter
        formatter.for_type(Report, _report_mimebundle)
        undo.callback(formatter.pop, Report, None)
        # Twice: hits are a list, and IPython's own way to print a list goes before a bundle.
        as_text = shell.display_formatter.formatters["text/plain"]
        for one, function in ((formatter, _hits_mimebundle), (as_text, _hits_text)):
            one.for_type_by_name(*HITS, functools.partial(function, session))
            undo.callback(one.pop, ".".join(HITS), None)
        _loaded[shell] = undo.pop_all()


def unload(shell: Any) -> None:
    """Take titan out of ``shell``; without titan in it this does nothing."""
    undo = _loaded.pop(shell, None)
    if undo is None:
        return
    undo.close()
    if not _loaded:
        # The last shell: threads and descriptors go as well. The reports stay, for a later load.
        tracker.default().close()


def _report_mimebundle(report: Report, **_: object) -> dict[str, Any]:
    return report_bundle(report)


def _hits_mimebundle(session: Session, hits: Hits, **_: object) -> dict[str, Any]:
    return hits_bundle(hits, "Nearest", simulated=session.magics.display == "simulated")


def _hits_text(session: Session, hits: Hits, printer: Any, cycle: bool) -> None:
    printer.text(_hits_mimebundle(session, hits)["text/plain"])


def _register_magics(shell: Any, magics: TitanMagics, undo: contextlib.ExitStack) -> None:
    manager = shell.magics_manager
    before = {kind: table.get("titan") for kind, table in manager.magics.items()}
    registered = manager.registry.get("TitanMagics")

    def forget() -> None:
        # IPython has no way to unregister: what stood there before is put back by hand.
        for kind, function in before.items():
            _put(manager.magics[kind], "titan", function)
        _put(manager.registry, "TitanMagics", registered)

    undo.callback(forget)
    shell.register_magics(magics)


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value


def _restore(target: list[Any], content: list[Any]) -> None:
    """Take out of ``target`` our own configurable only: others may have come after us."""
    target[:] = [item for item in target if item in content or not isinstance(item, TitanMagics)]


def _append(target: list[Any], item: Any, undo: contextlib.ExitStack) -> None:
    target.append(item)
    undo.callback(_remove, target, item)


def _remove(target: list[Any], item: Any) -> None:
    with contextlib.suppress(ValueError):
        target.remove(item)
