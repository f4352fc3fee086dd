"""begin -> Run -> Report: joins the meter, the memory scopes and the carbon of one window."""

from __future__ import annotations

import functools
import inspect
import os
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from titan_nb.carbon import refresh, resolve
from titan_nb.energy import Meter, Stretch, Window
from titan_nb.errors import SettingsError
from titan_nb.ledger import Ledger
from titan_nb.memory.peaks import Peaks
from titan_nb.nesting import Nesting
from titan_nb.records import CellRef, Energy, Gap, Measurement
from titan_nb.run import Interrupt, Run, outcome_of
from titan_nb.settings import CarbonConfig, Settings

if TYPE_CHECKING:
    from titan_nb.memory.limits import Limit

__all__ = ["Interrupt", "Run", "Tracker", "check", "default", "outcome_of", "track"]

P = ParamSpec("P")
T = TypeVar("T")


def check(carbon: CarbonConfig) -> None:
    """Do nothing if ``carbon`` can be used.

    Raises:
        SettingsError: If its zone is not known.
    """
    resolve(carbon)


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
        self._last = 0  # number of the outermost window that ended last

    def begin(
        self,
        cell: CellRef | None = None,
        settings: Settings | None = None,
        interrupt: Interrupt | None = None,
    ) -> Run:
        """Open a window.

        Args:
            cell: The cell it belongs to; None outside IPython.
            settings: How it is tracked.
            interrupt: Interrupts its code when it passes a limit of RAM in small steps.

        Raises:
            SettingsError: If the zone is not known, or a limit is below what is in use.
        """
        settings = settings or Settings()
        intensity = resolve(settings.carbon)
        refresh(settings.carbon)
        limit = self.limit(settings, interrupt)
        try:
            scope = self.peaks.open(exact_host=settings.exact_host_peak)
            run = Run(self, self.ledger.next_number(), cell, settings, intensity, scope, limit)
        except BaseException:
            if limit is not None:
                limit.close()
            raise
        self._nesting.enter(run)
        gap = run.window.gap
        if gap is not None:
            gap.when_final(functools.partial(self._add_gap, self._last, run.number, gap))
        return run

    def limit(self, settings: Settings, interrupt: Interrupt | None = None) -> Limit | None:
        """Set the limits of memory that ``settings`` ask for; None if they ask for none.

        Raises:
            SettingsError: If more is in use already; then nothing is limited.
        """
        gpu_bytes, ram_bytes = settings.gpu_limit_bytes, settings.ram_limit_bytes
        if gpu_bytes is None and ram_bytes is None:
            return None
        from titan_nb.memory.limits import Limit  # few cells have one

        return Limit.open(gpu_bytes, ram_bytes, self.meter.sampler.every, interrupt)

    def unlock(self) -> None:
        """Take new locks in a forked child: a thread that is not there any more may hold the old ones."""
        self.lock = threading.Lock()
        self._nesting.unlock()
        self.ledger.unlock()

    def close(self) -> None:
        """Let go of threads and file descriptors; the next window takes them again."""
        self._nesting.clear()
        self.meter.close()
        self.peaks.close()

    def ended(self, run: Run) -> int | None:
        """Take note that ``run`` has ended; return the number of the window that it lies in."""
        parent = self._nesting.leave(run)
        window, tail, overlap = run.window, run.window.tail, run.window.overlap
        with self.lock:
            if parent is None:
                self._last = run.number
                overlap.numbers.append(run.number)
            if tail is None:
                return parent
            # The one that ended last may come here before the others: each waits for its readings.
            if window.last:
                overlap.last = window
            else:
                overlap.first = window
            first, last = overlap.first, overlap.last
            if first is None or last is None:
                return parent
            overlap.first = overlap.last = None
        tail.when_final(functools.partial(self._add_overlap, overlap.numbers, first, last, tail))
        return parent

    def dropped(self, run: Run) -> None:
        """Take note that ``run`` has ended without a report."""
        window = run.window
        if window.tail is not None or not window.last:
            return  # the windows that it overlapped with are charged for its time

        def add(measurement: Measurement) -> None:
            energy = {key: part for key, part in measurement.energy.items() if key in window.counters}
            self.ledger.add_gap(Gap(run.number, run.number, measurement.seconds, energy))

        if window.counters:
            if window.final:
                add(window.end())
            else:
                window.refined(add)

    def _add_gap(self, after: int, before: int, gap: Stretch) -> None:
        self.ledger.add_gap(Gap(after, before, gap.ended - gap.started, gap.energy))

    def _add_overlap(self, together: list[int], first: Window, last: Window, tail: Stretch) -> None:
        rest = tail.energy | last.models_since(first)
        energy = {
            key: Energy.sum({"first": part, "rest": rest[key]}) if key in rest else part
            for key, part in first.end().energy.items()
        }
        seconds = (last.ended or last.started) - first.started
        cpu_seconds = first.end().cpu_seconds + last.cpu_seconds_since(first)
        self.ledger.overlap(together, seconds, cpu_seconds, rest | energy)


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
    *,
    label: str | None = None,
    zone: str | None = None,
    grams_per_kwh: float | None = None,
    carbon: CarbonConfig | None = None,
) -> Tracking: ...


def track(
    function: Callable[P, T] | None = None,
    /,
    *,
    label: str | None = None,
    zone: str | None = None,
    grams_per_kwh: float | None = None,
    carbon: CarbonConfig | None = None,
) -> Callable[P, T] | Tracking:
    """Measure a block or a function.

    It stands as ``with track() as run:``, ``@track`` or ``@track(label=...)``. Nothing is printed; read
    ``run.report`` after the block, or `titan_nb.history`.

    Args:
        function: The function to wrap when used as a bare decorator.
        label: A name for the block; a function's own name by default.
        zone: Country whose grid is used for the carbon, as an ISO 3166-1 alpha-2 code.
        grams_per_kwh: An explicit intensity in g CO2e per kWh, instead of a zone.
        carbon: All there is to say on carbon and cost, instead of the two above.

    Raises:
        SettingsError: If the intensity is out of range, or two ways to give it are mixed; on entry, if the
            zone is not known.
        TypeError: If ``function`` is a generator function.
    """
    if carbon is None:
        carbon = CarbonConfig(zone=zone, grams_per_kwh=grams_per_kwh)
    elif zone is not None or grams_per_kwh is not None:
        raise SettingsError("track takes zone= and grams_per_kwh=, or carbon= that holds them, not both")
    tracking = Tracking(Settings(label=label, carbon=carbon))
    return tracking if function is None else tracking(function)
