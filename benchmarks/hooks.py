"""How each peer measures every cell: its own start and stop, in `pre_run_cell` and `post_run_cell`."""

from __future__ import annotations

import functools
import logging
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["PEERS", "Carbontracker", "Codecarbon", "Eco2ai", "Hooks", "Zeus"]

_JOULES_PER_KWH = 3.6e6


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

    def joules(self) -> float:
        """Return what the GPUs used in the last measurement, in joules."""
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
        self._task = self._tracker.stop_task()

    def joules(self) -> float:
        """Return what the GPUs used in the last task."""
        return float(self._task.gpu_energy) * _JOULES_PER_KWH


class Eco2ai(Hooks):
    """One tracker for the session, started and stopped around each cell, with its zone given.

    Args:
        period_seconds: How often it samples; 10 s is its own default.
        anew: Make a new tracker for each cell: one that is started again samples at its stop only.
    """

    def __init__(self, period_seconds: float = 10.0, *, anew: bool = False) -> None:
        import eco2ai

        super().__init__()
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        self._folder = tempfile.TemporaryDirectory()
        self._make = functools.partial(
            eco2ai.Tracker,
            project_name="benchmark",
            experiment_description="empty cells",
            file_name=str(Path(self._folder.name, "emission.csv")),
            alpha_2_code="DE",
            measure_period=period_seconds,
            ignore_warnings=True,
        )
        self._anew = anew
        self._tracker = self._make()

    def start(self) -> None:
        """Start the tracker."""
        if self._anew:
            self._tracker = self._make()
        self._tracker.start()

    def stop(self) -> None:
        """Stop the tracker."""
        self._tracker.stop()

    def joules(self) -> float:
        """Return what the GPUs used since the last start."""
        return float(self._tracker._gpu.get_consumption()) * _JOULES_PER_KWH


class Carbontracker(Hooks):
    """One tracker for the session, one epoch a cell; of the GPUs only, without log and prediction.

    Args:
        period_seconds: How often it samples; 1 s is its own default.
    """

    def __init__(self, period_seconds: float = 1.0) -> None:
        from carbontracker import constants
        from carbontracker.tracker import CarbonTracker

        super().__init__()
        logging.disable(logging.CRITICAL)
        # It multiplies all energy by this average of data centres.
        self._pue = constants.PUE_2023
        self._tracker = CarbonTracker(
            epochs=1_000_000,
            epochs_before_pred=0,
            update_interval=period_seconds,
            components="gpu",
            ignore_errors=True,
            verbose=0,
        )

    def start(self) -> None:
        """Start an epoch."""
        self._tracker.epoch_start()

    def stop(self) -> None:
        """End the epoch."""
        self._tracker.epoch_end()

    def joules(self) -> float:
        """Return what the GPUs used in the last epoch."""
        return float(self._tracker.tracker.total_energy_per_epoch()[-1]) / self._pue * _JOULES_PER_KWH


class Zeus(Hooks):
    """One monitor for the session, one window a cell; short windows by its own approximation."""

    def __init__(self) -> None:
        from zeus.monitor import ZeusMonitor

        super().__init__()
        logging.disable(logging.CRITICAL)
        self._monitor = ZeusMonitor(approx_instant_energy=True)

    def start(self) -> None:
        """Begin a window; there is no framework to wait for."""
        self._monitor.begin_window("cell", sync_execution=False)

    def stop(self) -> None:
        """End the window."""
        self._measurement = self._monitor.end_window("cell", sync_execution=False)

    def joules(self) -> float:
        """Return what the GPUs used in the last window."""
        return float(sum(self._measurement.gpu_energy.values()))


PEERS: dict[str, Callable[[], Hooks]] = {
    "carbontracker": Carbontracker,
    "codecarbon": Codecarbon,
    "eco2ai": Eco2ai,
    "zeus": Zeus,
}
