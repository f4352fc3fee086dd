"""begin -> Run -> Report: joins the meter, the memory scopes and the carbon of one window."""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast, overload

from titan_nb.carbon.intensity import Intensity, carbon_of, resolve, unknown_note
from titan_nb.energy import Meter, Window
from titan_nb.ledger import Ledger
from titan_nb.memory.peaks import Peaks, Scope
from titan_nb.nesting import Nesting
from titan_nb.records import CellRef, Energy, Gap, Measurement, MemoryUse, Outcome, Report
from titan_nb.settings import CarbonConfig, Settings

__all__ = ["Run", "Tracker", "check", "default", "outcome_of", "track"]

SHARED = "another window was open at the same time: energy and CPU time are those of the whole process"

P = ParamSpec("P")
T = TypeVar("T")


def outcome_of(error: BaseException | type[BaseException] | None) -> tuple[Outcome, str | None]:
    """Return the outcome that ``error`` stands for, and the name of its class."""
    if error is None:
        return "ok", None
    kind = error if isinstance(error, type) else type(error)
    # An interrupt reaches a cell with a top-level await as the cancellation of its task.
    interrupted = issubclass(kind, KeyboardInterrupt) or kind.__name__ == "CancelledError"
    return ("interrupted" if interrupted else "error"), kind.__name__


def check(carbon: CarbonConfig) -> None:
    """Do nothing if ``carbon`` can be used.

    Raises:
        SettingsError: If its zone is not known.
    """
    resolve(carbon)


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
        self._tracker = tracker
        self._parent: int | None = None
        self._scope = scope
        self._memory: MemoryUse | None = None
        self._measurement: Measurement | None = None
        self._listener: Callable[[Report], None] | None = None
        self._started = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        # Last, so that nothing of ours lies between the first reading and the user's code.
        self.window: Window = tracker.meter.begin()

    def change(self, settings: Settings) -> None:
        """Replace the settings of the open window.

        Raises:
            SettingsError: If the zone is not known; the old settings stay.
        """
        self.intensity = resolve(settings.carbon)
        self.settings = settings

    def close(self) -> None:
        """End the measurement; what follows until `finish` costs the user's figures nothing."""
        if self._measurement is None:
            self._measurement = self.window.end()
            self._memory = self._scope.close()
            self._parent = self._tracker.ended(self)

    def finish(self, outcome: Outcome = "ok", error: str | None = None) -> Report:
        """Close the window and write its report into the ledger; later calls return the same report."""
        self.close()
        if self.report is None:
            self.report = self._build(cast("Measurement", self._measurement), outcome, error)
            self._tracker.ledger.add(self.report)
            self.window.refined(self._refine)
        return self.report

    def drop(self) -> None:
        """Close the window without a report."""
        self.close()

    def settle(self, timeout: float = 1.0) -> Report:
        """Return the report once the counters' late readings are in, or after ``timeout`` seconds.

        Args:
            timeout: Longest wait in seconds.
        """
        report = self.finish()
        # The sampler's own call of `_refine` may still be on its way.
        self._refine(self.window.settle(timeout))
        return self.report or report

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
        memory = self._memory or MemoryUse({})
        if not memory.devices:
            notes = (*notes, "memory unknown: it could not be read in time")
        energy = dict(measurement.energy)
        if self.shared:
            # Nobody can tell whose work it was: ours is anything from nothing to all of it.
            energy = {
                key: part if part.low is None else replace(part, low=0.0) for key, part in energy.items()
            }
            notes = (*notes, SHARED)
        total = Energy.sum(energy)
        carbon = None if self.intensity is None else carbon_of(total, self.intensity)
        if self.intensity is None and total.joules is not None:
            notes = (*notes, unknown_note(total))
        return Report(
            number=self.number,
            cell=self.cell,
            label=self.settings.label,
            outcome=outcome,
            error=error,
            started=self._started,
            seconds=measurement.seconds,
            cpu_seconds=measurement.cpu_seconds,
            energy=energy,
            carbon=carbon,
            memory=memory,
            notes=notes,
            chat=self.chat,
            parent=self._parent,
            shared_window=self.shared,
        )


class Tracker:
    """Opens windows and keeps their reports.

    Args:
        ledger: Where the reports go.
        meter: What measures energy and time.
        peaks: What measures memory.
    """

    def __init__(
        self, ledger: Ledger | None = None, meter: Meter | None = None, peaks: Peaks | None = None
    ) -> None:
        self.ledger = ledger or Ledger()
        self.meter = meter or Meter()
        self.peaks = peaks or Peaks(every=self.meter.sampler.every)
        self.lock = threading.Lock()
        self._nesting = Nesting()
        self._last: Run | None = None

    def begin(self, cell: CellRef | None = None, settings: Settings | None = None) -> Run:
        """Open a window.

        Args:
            cell: The cell it belongs to; None outside IPython.
            settings: How it is tracked.

        Raises:
            SettingsError: If the zone is not known.
        """
        settings = settings or Settings()
        intensity = resolve(settings.carbon)
        scope = self.peaks.open(exact_host=settings.exact_host_peak)
        run = Run(self, self.ledger.next_number(), cell, settings, intensity, scope)
        last, self._last = self._last, None
        if self._nesting.enter(run) and last is not None:
            self._add_gap(last, run)
        return run

    def unlock(self) -> None:
        """Take new locks in a forked child: a thread that is not there any more may hold the old ones."""
        self.lock = threading.Lock()
        self._nesting.unlock()
        self.ledger.unlock()

    def close(self) -> None:
        """Let go of threads and file descriptors; the next window takes them again."""
        self._nesting.clear()
        self._last = None
        self.meter.close()
        self.peaks.close()

    def ended(self, run: Run) -> int | None:
        """Take note that ``run`` has ended; return the number of the window that it lies in."""
        parent = self._nesting.leave(run)
        if parent is None:
            self._last = run
        return parent

    def _add_gap(self, last: Run, run: Run) -> None:
        ended = last.window.ended
        if ended is None:
            return
        seconds = max(0.0, run.window.started - ended)
        energy = self.meter.between(last.window, run.window)
        self.ledger.add_gap(Gap(after=last.number, before=run.number, seconds=seconds, energy=energy))


@functools.cache
def default() -> Tracker:
    """Return the tracker of this process: one ledger, one meter, one sampler thread."""
    tracker = Tracker()
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=tracker.unlock)
    return tracker


class Tracking:
    """The context manager behind `track`; each entry opens a window of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = threading.local()

    def __enter__(self) -> Run:
        run = default().begin(settings=self._settings)
        # A stack, because the block may be entered again inside itself; one per thread.
        self._local.runs = [*getattr(self._local, "runs", ()), run]
        return run

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._local.runs.pop().finish(*outcome_of(kind))

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return ``function`` with a window around each call."""
        if not callable(function):
            raise TypeError(
                f"track cannot wrap {function!r}: give it a function, or name a block with label="
            )
        name = getattr(function, "__name__", type(function).__name__)
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(
                f"track cannot wrap the generator function {name!r}: between two items the "
                "caller's code runs; put `with titan_nb.track():` around the loop that consumes it"
            )
        settings = self._settings
        if settings.label is None:
            settings = settings.replace(label=name)
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def tracked_coroutine(*args: P.args, **kwargs: P.kwargs) -> Any:
                with Tracking(settings):
                    return await cast("Awaitable[Any]", function(*args, **kwargs))

            return cast("Callable[P, T]", tracked_coroutine)

        @functools.wraps(function)
        def tracked(*args: P.args, **kwargs: P.kwargs) -> T:
            with Tracking(settings):
                return function(*args, **kwargs)

        return tracked


@overload
def track(function: Callable[P, T], /) -> Callable[P, T]: ...


@overload
def track(
    *, label: str | None = None, zone: str | None = None, grams_per_kwh: float | None = None
) -> Tracking: ...


def track(
    function: Callable[P, T] | None = None,
    /,
    *,
    label: str | None = None,
    zone: str | None = None,
    grams_per_kwh: float | None = None,
) -> Callable[P, T] | Tracking:
    """Measure a block or a function.

    It stands as ``with track() as run:``, ``@track`` or ``@track(label=...)``. Nothing is printed; read
    ``run.report`` after the block, or `titan_nb.history`.

    Args:
        function: The function to wrap when used as a bare decorator.
        label: A name for the block; a function's own name by default.
        zone: Country whose grid is used for the carbon, as an ISO 3166-1 alpha-2 code.
        grams_per_kwh: An explicit intensity in g CO2e per kWh, instead of a zone.

    Raises:
        SettingsError: On entry, if the zone is not known or the intensity is out of range.
        TypeError: If ``function`` is a generator function.
    """
    tracking = Tracking(Settings(label=label, carbon=CarbonConfig(zone=zone, grams_per_kwh=grams_per_kwh)))
    return tracking if function is None else tracking(function)
