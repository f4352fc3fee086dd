"""When and where a report is shown: once, at the end, under the outermost cell, and never in the way."""

from __future__ import annotations

import sys
import uuid
from typing import TYPE_CHECKING, Any

from titan_nb.notebook.cells import Ended, Frame
from titan_nb.notebook.pending import PendingClear
from titan_nb.records import Report
from titan_nb.views.bundle import report_bundle
from titan_nb.views.simulated import simulated

if TYPE_CHECKING:
    from titan_nb.notebook.magics import TitanMagics

__all__ = ["Presenter"]


class Presenter:
    """Shows the reports of one shell."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        # As it is now: inside `%%capture` the shell has another one, which would swallow the report.
        self._publisher = shell.display_pub
        self._pending = PendingClear(shell)

    @property
    def rich(self) -> bool:
        """Whether a front end is there that draws more than text."""
        return getattr(self._shell, "kernel", None) is not None

    def listen(self) -> None:
        """Watch the outputs of the calling thread."""
        self._pending.listen()

    def close(self) -> None:
        """Stop watching."""
        self._pending.close()

    def show(self, frame: Frame, ended: Ended, magics: TitanMagics) -> None:
        """Show the report of a cell that has just ended, if it is to be shown."""
        run = frame.run
        if run is None or run.report is None:
            return
        wanted = self._wanted(frame, magics)
        # A cell that was stopped for its budget, or met a limit, must say so, however quiet it is.
        loud = [text for text in (run.report.budget, run.report.shortage) if text]
        if not (wanted or loud) or self._would_clear(frame, ended):
            return
        if not wanted:
            sys.stderr.writelines(f"titan: {text}\n" for text in loud)
            return
        report = run.report
        if magics.display == "simulated":
            self._send(report_bundle(simulated(report)))
        elif frame.cell.cell_id is None:
            self._send(report_bundle(report))
        else:
            # Only a front end that names its cells can be trusted to find the display again.
            display_id = f"titan-{uuid.uuid4().hex}"
            self._send(report_bundle(report), {"display_id": display_id})
            run.when_refined(report, lambda refined: self._update(frame, refined, display_id))

    def publish(self, bundle: dict[str, Any]) -> None:
        """Show what the user has asked for, where the output of his cell goes."""
        self._shell.display_pub.publish(bundle, metadata={})

    def say(self, frame: Frame, text: str) -> None:
        """Print one line on stderr in the name of a running cell, from any thread; in a kernel only.

        Without a kernel there is nothing that would put the line under the right cell, and with a
        ``clear_output(wait=True)`` pending it would set that off.
        """
        if not self._pending.waits(frame.message_id):
            self._in_name_of(frame, "stream", {"name": "stderr", "text": f"titan: {text}\n"})

    def _send(self, bundle: dict[str, Any], transient: dict[str, str] | None = None) -> None:
        self._publisher.publish(bundle, metadata={}, transient=transient or {})

    def _wanted(self, frame: Frame, magics: TitanMagics) -> bool:
        run = frame.run
        if run is None or run.report is None or run.settings.quiet or magics.display == "off":
            return False
        if frame.explicit or run.report.budget is not None or run.report.shortage is not None:
            return True
        return self.rich and run.report.seconds >= magics.min_seconds

    def _would_clear(self, frame: Frame, ended: Ended) -> bool:
        """Say whether the user's pending ``clear_output(wait=True)`` would take our display as its cue."""
        waits = self._pending.waits(frame.message_id)
        self._pending.forget(frame.message_id)
        # A value or a traceback was shown after the clear, and has set it off already.
        return waits and ended.value is None and ended.outcome == "ok"

    def _update(self, frame: Frame, report: Report, display_id: str) -> None:
        """Send the one permitted update, from the sampler's thread, in the name of the cell."""
        content = {"data": report_bundle(report), "metadata": {}, "transient": {"display_id": display_id}}
        self._in_name_of(frame, "update_display_data", content)

    def _in_name_of(self, frame: Frame, kind: str, content: dict[str, Any]) -> None:
        session = getattr(self._publisher, "session", None)
        if session is not None:
            session.send(
                self._publisher.pub_socket, kind, content, parent=frame.parent, ident=self._publisher.topic
            )
