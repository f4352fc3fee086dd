"""How each peer measures every cell: its own start and stop, in `pre_run_cell` and `post_run_cell`."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "Hooks"]


class Hooks:
    """A peer in IPython's events.

    Attributes:
        ended: How many cells it has measured.
    """

    def __init__(self) -> None:
        self.ended = 0
        self._open = False

    def attach(self, shell: Any) -> None:
        """Measure every cell from the next one on."""
        shell.events.register("pre_run_cell", self._pre)
        shell.events.register("post_run_cell", self._post)

    def detach(self, shell: Any) -> None:
        """Measure no cell after this one."""
        shell.events.unregister("pre_run_cell", self._pre)
        shell.events.unregister("post_run_cell", self._post)
        self.ended = 0

    def start(self) -> None:
        """Begin to measure."""
        raise NotImplementedError

    def stop(self) -> None:
        """End the measurement."""
        raise NotImplementedError

    def _pre(self, info: Any) -> None:
        self.start()
        self._open = True

    def _post(self, result: Any) -> None:
        # The cell that attaches the hooks ends with them, and has not begun with them.
        if self._open:
            self._open = False
            self.stop()
            self.ended += 1


class Codecarbon(Hooks):
    """One offline tracker for the session, one task a cell; its cheapest form, without log and file."""

    def __init__(self) -> None:
        from codecarbon import OfflineEmissionsTracker

        super().__init__()
        self._tracker = OfflineEmissionsTracker(
            country_iso_code="DEU", save_to_file=False, log_level="critical", allow_multiple_runs=True
        )
        # The first task looks the machine over, for seconds.
        self.start()
        self.stop()

    def start(self) -> None:
        """Begin a task."""
        self._tracker.start_task()

    def stop(self) -> None:
        """End the task."""
        self._tracker.stop_task()


class Eco2ai(Hooks):
    """One tracker for the session, started and stopped around each cell, with its zone given."""

    def __init__(self) -> None:
        import eco2ai

        super().__init__()
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        self._folder = tempfile.TemporaryDirectory()
        self._tracker = eco2ai.Tracker(
            project_name="benchmark",
            experiment_description="empty cells",
            file_name=str(Path(self._folder.name, "emission.csv")),
            alpha_2_code="DE",
            ignore_warnings=True,
        )

    def start(self) -> None:
        """Start the tracker."""
        self._tracker.start()

    def stop(self) -> None:
        """Stop the tracker."""
        self._tracker.stop()


PEERS: dict[str, type[Hooks]] = {"codecarbon": Codecarbon, "eco2ai": Eco2ai}
