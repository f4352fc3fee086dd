"""What a long cell took last time, said before it runs again, to those who asked for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from titan_nb.notebook.cells import Frame
from titan_nb.notebook.reclaim import gpu_names
from titan_nb.records import Report

if TYPE_CHECKING:
    from titan_nb.memory.forecast import History

__all__ = ["Expectations"]


class Expectations:
    """The cells of one shell that took long, and what their memory peaked at.

    Args:
        shell: The shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._kept: History | None = None

    @property
    def _history(self) -> History:
        # Imported only for those who asked, so that loading the extension stays quick.
        if self._kept is None:
            from titan_nb.memory.forecast import History

            self._kept = History()
        return self._kept

    def before_cell(self, frame: Frame) -> None:
        """Say what a cell is expected to take, if it ran before on inputs of the same shapes."""
        source = self._shell.transform_cell(getattr(frame.info, "raw_cell", ""))
        frame.forecast_key = self._history.key(source, self._shell.user_ns)
        expected = self._history.expect(frame.forecast_key)
        if expected is not None:
            for key, name in gpu_names().items():
                expected = expected.replace(key, name)
            sys.stderr.write(f"titan: {expected}\n")

    def after_cell(self, frame: Frame, report: Report, min_seconds: float) -> None:
        """Remember what a cell took, if it took at least ``min_seconds`` and ran to its end."""
        if frame.forecast_key is not None and report.outcome == "ok" and report.seconds >= min_seconds:
            self._history.remember(frame.forecast_key, report.memory)
