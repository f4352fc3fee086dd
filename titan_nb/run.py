"""One open window: from its start to its report, and to the figures that come later."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, cast

from titan_nb.carbon import Intensity, car_note, carbon_of, cost_of, refresh, resolve, unknown_note, warning
from titan_nb.energy import Window
from titan_nb.memory.peaks import Scope
from titan_nb.records import CellRef, Energy, Measurement, MemoryUse, Outcome, Report
from titan_nb.settings import Settings

if TYPE_CHECKING:
    from titan_nb.energy.trace import Trace
    from titan_nb.memory.limits import Limit
    from titan_nb.tracker import Tracker

__all__ = ["Interrupt", "Run", "outcome_of"]

Interrupt = Callable[[], bool]
"""Interrupts the code of a window as Ctrl-C does, from any thread; returns False if it is not the moment."""

SHARED = "another window was open at the same time: energy and CPU time are those of the whole process"


def outcome_of(error: BaseException | type[BaseException] | None) -> tuple[Outcome, str | None]:
    """Return the outcome that ``error`` stands for, and the name of its class."""
    if error is None:
        return "ok", None
    kind = error if isinstance(error, type) else type(error)
    # An interrupt reaches a cell with a top-level await as the cancellation of its task.
    interrupted = issubclass(kind, KeyboardInterrupt) or kind.__name__ == "CancelledError"
    return ("interrupted" if interrupted else "error"), kind.__name__


class Run:
    """One open window; the only mutable object on the way from a cell to its report."""

    def __init__(
        self,
        tracker: Tracker,
        number: int,
        cell: CellRef | None,
        settings: Settings,
        intensity: Intensity | None,
        scope: Scope,
        limit: Limit | None = None,
    ) -> None:
        self.number = number
        self.cell = cell
        self.settings = settings
        self.intensity = intensity
        self.shared = False
        self.report: Report | None = None
        self.thread = threading.get_ident()
        self.notes: list[str] = []
        self.chat: str | None = None
        self.budget: str | None = None
        self.shortage: str | None = None
        self.limit = limit
        self._tracker = tracker
        self._parent: int | None = None
        self._scope = scope
        self._closed = False
        self.memory = MemoryUse({})
        self._measurement: Measurement | None = None
        self._listener: Callable[[Report], None] | None = None
        self._started = datetime.now(timezone.utc)
        # Last, so that nothing of ours lies between the first reading and the user's code.
        self.window: Window = tracker.meter.begin()

    def change(self, settings: Settings, interrupt: Interrupt | None = None) -> None:
        """Replace the settings of the open window.

        Args:
            settings: The new ones.
            interrupt: See `Tracker.begin`.

        Raises:
            SettingsError: If the zone is not known, or a limit is below what is in use.
                The old settings stay.
        """
        intensity = resolve(settings.carbon)
        limit = self._tracker.limit(settings, interrupt)
        self._lift()
        self.intensity, self.limit, self.settings = intensity, limit, settings
        refresh(settings.carbon)

    def spent(self) -> Report:
        """Return what the open window has cost so far, as a report that is in no ledger.

        Called on the sampler's thread.
        """
        return self._build(self.window.so_far(), "ok", None)

    def stop(self) -> None:
        """End the limits and the measurement of energy and time; what follows costs the user nothing."""
        if self._measurement is None:
            self._lift()
            self._measurement = self.window.end()
            self._parent = self._tracker.ended(self)

    def close(self) -> None:
        """End the measurement, of memory as well; what is given back after `stop` is given back by then."""
        self.stop()
        if not self._closed:
            self._closed, self.memory = True, self._scope.close()

    def _lift(self) -> None:
        if self.limit is not None:
            failure = self.limit.close()
            self.notes += [self.limit.mechanism, *([failure] if failure else [])]

    def finish(self, outcome: Outcome = "ok", error: str | None = None) -> Report:
        """Close the window and write its report into the ledger; later calls return the same report."""
        self.close()
        if self.report is None:
            self._note_provider()
            self.report = self._build(cast("Measurement", self._measurement), outcome, error)
            self._tracker.ledger.add(self.report)
            self.window.refined(self._refine)
        return self.report

    def _note_provider(self) -> None:
        line = warning(self.settings.carbon)
        if line is not None:
            self.notes.append(line)

    def drop(self) -> None:
        """Close the window without a report; what its counters counted goes to a gap of its own."""
        self.close()
        if self._parent is None and self.report is None:
            self._tracker.dropped(self)

    def settle(self, timeout: float = 1.0) -> Report:
        """Return the report once the counters' late readings are in, or after ``timeout`` seconds.

        Args:
            timeout: Longest wait in seconds.
        """
        report = self.finish()
        # The sampler's own call of `_refine` may still be on its way.
        self._refine(self.window.settle(timeout))
        return self.report or report

    def traces(self) -> dict[str, Trace]:
        """Return the power over the window's time of each device that has a counter, by device key.

        A trace's ``seconds`` are on ``time.perf_counter`` and its ``watts``, one fewer, are the mean power
        between them. A long window's older points are thinned. After `settle` the last tick is in it.
        """
        return self.window.traces()

    def when_refined(self, shown: Report, listener: Callable[[Report], None]) -> None:
        """Call ``listener`` once with the refined report, also if it came after ``shown`` was read."""
        with self._tracker.lock:
            self._listener = listener
            late = self.report if self.report is not shown else None
            if late is not None:
                self._listener = None
        if late is not None:
            listener(late)

    def __repr__(self) -> str:
        return f"<Run {self.number}: {'open' if self.report is None else self.report.outcome}>"

    def _refine(self, measurement: Measurement) -> None:
        """Take late readings in; called on the sampler's thread, and by who waits for them."""
        with self._tracker.lock:
            if self.report is None or measurement is self._measurement:
                return
            self._measurement = measurement
            self.report = refined = self._build(measurement, self.report.outcome, self.report.error)
            listener, self._listener = self._listener, None
        self._tracker.ledger.refine(refined)
        if listener is not None:
            listener(refined)

    def _build(self, measurement: Measurement, outcome: Outcome, error: str | None) -> Report:
        notes = (*measurement.warnings, *self.notes)
        if self._closed and not self.memory.devices:
            notes = (*notes, "memory unknown: it could not be read in time")
        energy = dict(measurement.energy)
        if self.shared:
            # Nobody can tell whose work it was: ours is anything from nothing to all of it.
            energy = {
                key: part if part.low is None else replace(part, low=0.0) for key, part in energy.items()
            }
            notes = (*notes, SHARED)
        config = self.settings.carbon
        # Asked for again where a provider may have answered meanwhile.
        intensity = resolve(config) if config.provider else self.intensity
        total = Energy.sum(energy)
        carbon = None if intensity is None else carbon_of(total, intensity, config.pue)
        if intensity is None and total.joules is not None:
            notes = (*notes, unknown_note(total, config))
        if config.equivalents and carbon is not None:
            notes = (*notes, car_note(carbon))
        return Report(
            number=self.number,
            cell=self.cell,
            label=self.settings.label,
            outcome=outcome,
            error=error,
            started=self._started.isoformat(timespec="milliseconds"),
            seconds=measurement.seconds,
            cpu_seconds=measurement.cpu_seconds,
            energy=energy,
            carbon=carbon,
            cost=cost_of(total, config, self._started, measurement.seconds),
            memory=self.memory,
            notes=notes,
            chat=self.chat,
            parent=self._parent,
            shared_window=self.shared,
            budget=self.budget,
            shortage=self.shortage,
        )
