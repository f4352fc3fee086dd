"""Measure a function several times: mean, standard error and interval of one call."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from titan_nb.errors import SettingsError
from titan_nb.records import GRADES, Grade, Report
from titan_nb.settings import CarbonConfig, Settings
from titan_nb.tracker import default, outcome_of
from titan_nb.units import grams, joules, seconds

if TYPE_CHECKING:
    from titan_nb.tracker import Run, Tracker

__all__ = ["CONFIDENCE", "Estimate", "Repeated", "estimate", "known_devices", "measure", "student_t"]

CONFIDENCE = 0.95
MIN_WINDOW_SECONDS = 0.5
"""A window this long spans several ticks of the counters that are in use."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean with its uncertainty.

    Attributes:
        mean: The mean over the windows.
        standard_error: Standard error of the mean; None for a single window, which shows no spread.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    mean: float
    standard_error: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True, repr=False)
class Repeated:
    """What one call of a function costs, from several windows; see `measure`.

    Attributes:
        label: The function's name, or the user's own.
        n: How many windows were measured.
        calls: How many calls each of them held.
        energy: Joules of a call; None when unknown.
        seconds: Wall time of a call in seconds.
        grams: Grams of CO2e of a call; None when unknown.
        grade: The weakest grade among the windows.
        source: Which counters or models the energy comes from, or why it is unknown.
        devices: Keys of the devices in the energy.
        notes: What the reader must know.
    """

    label: str
    n: int
    calls: int
    energy: Estimate | None
    seconds: Estimate
    grams: Estimate | None
    grade: Grade
    source: str
    devices: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def joules(self) -> float | None:
        """Mean joules of a call; None when unknown."""
        return None if self.energy is None else self.energy.mean

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean joules; None when unknown, or with a single window."""
        return None if self.energy is None else self.energy.standard_error

    @property
    def low(self) -> float | None:
        """Lower end of the interval in joules; None when unknown."""
        return None if self.energy is None else self.energy.low

    @property
    def high(self) -> float | None:
        """Upper end of the interval in joules; None when unknown."""
        return None if self.energy is None else self.energy.high

    def __repr__(self) -> str:
        """Return it in a few lines."""
        windows = f"{self.n} window{'s' * (self.n != 1)} of {self.calls} call{'s' * (self.calls != 1)}"
        each = "" if self.n * self.calls == 1 else " a call"
        lines = [f"{self.label}: {windows}"]
        if self.energy is None:
            lines.append(f"  energy  unknown ({self.source})")
        else:
            text = joules(self.energy.mean, self.energy.low, self.energy.high)
            error = self.energy.standard_error
            spread = "" if error is None else f", standard error {joules(error)}"
            lines.append(f"  energy  {text}{each}, {self.grade}{spread}")
        lines.append(f"  time    {seconds(self.seconds.mean)}{each}")
        if self.grams is not None:
            lines.append(f"  CO2e    {grams(self.grams.mean, self.grams.low, self.grams.high)}{each}")
        lines += [f"  - {note}" for note in self.notes]
        return "\n".join(lines)


def measure(
    function: Callable[..., Any],
    /,
    *args: Any,
    repeat: int = 5,
    warm_up: int = 0,
    label: str | None = None,
    zone: str | None = None,
    grams_per_kwh: float | None = None,
    min_window_seconds: float = MIN_WINDOW_SECONDS,
    tracker: Tracker | None = None,
) -> Repeated:
    """Call ``function(*args)`` in ``repeat`` windows, and return what one call costs.

    A call that is shorter than ``min_window_seconds`` is put into a window together with others: their
    number is doubled until a window lasts that long. So a short function is called more often than
    ``repeat`` times; one that is long enough is called exactly ``warm_up + repeat`` times. What the function
    raises comes out as it is. The windows stand in the ledger under the label.

    The interval of the mean y of n windows with the sample standard deviation s is

        [y - t s / sqrt(n) - b,  y + t s / sqrt(n) + c]

    where t is the two-sided 95 % quantile of Student's distribution with n - 1 degrees of freedom (JCGM
    100:2008, 4.2.3 and G.3), and b and c are the mean distances of the single figures from the lower and the
    upper ends of their own intervals. These are added, and not squared first, because the error of a counter
    or of a model is the same in every window and does not average out.

    Args:
        function: What to call; neither a coroutine function nor a generator function.
        args: Its arguments; for keywords use a lambda or `functools.partial`.
        repeat: How many windows.
        warm_up: How many calls are made before, and not measured.
        label: Its name; the function's own by default.
        zone: Country whose grid is used for the carbon.
        grams_per_kwh: An explicit intensity in g CO2e per kWh, instead of a zone.
        min_window_seconds: Shortest window in seconds.
        tracker: Who measures; that of this process by default.

    Raises:
        SettingsError: If a number is out of range, or the zone is not known.
        TypeError: If ``function`` cannot be called so.
    """
    _check(function, repeat, warm_up, min_window_seconds)
    name = label or str(getattr(function, "__name__", type(function).__name__))
    settings = Settings(label=name, carbon=CarbonConfig(zone=zone, grams_per_kwh=grams_per_kwh))
    begin = (tracker or default()).begin
    for _ in range(warm_up):
        function(*args)
    calls = 1
    runs: list[Run] = []
    while len(runs) < repeat:
        run = begin(settings=settings)
        started = time.perf_counter()
        try:
            for _ in range(calls):
                function(*args)
        except BaseException as error:
            run.finish(*outcome_of(error))
            raise
        run.close()
        if not runs and time.perf_counter() - started < min_window_seconds:
            run.drop()
            calls *= 2
            continue
        run.finish()
        runs.append(run)
    # Only now, so that waiting for the last tick of a window does not stand between two windows.
    return _repeated(name, calls, [run.settle() for run in runs])


def estimate(values: Sequence[tuple[float, float, float]]) -> Estimate:
    """Return the mean of ``(value, low, high)`` triples, with the interval that `measure` describes."""
    n = len(values)
    mean = math.fsum(value for value, _, _ in values) / n
    below = math.fsum(value - low for value, low, _ in values) / n
    above = math.fsum(high - value for value, _, high in values) / n
    if n == 1:
        return Estimate(mean, None, max(0.0, mean - below), mean + above)
    variance = math.fsum((value - mean) ** 2 for value, _, _ in values) / (n - 1)
    error = math.sqrt(variance / n)
    half = student_t(n - 1) * error
    return Estimate(mean, error, max(0.0, mean - half - below), mean + half + above)


def known_devices(report: Report) -> frozenset[str]:
    """Return the keys of the devices whose energy is known."""
    return frozenset(key for key, part in report.energy.items() if part.joules is not None)


def student_t(degrees: int) -> float:
    """Return the two-sided 95 % quantile of Student's distribution, by bisection.

    The probability for whole degrees of freedom is a finite sum: Abramowitz and Stegun, Handbook of
    Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 16.0  # 12.7 for one degree is the largest
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < CONFIDENCE else (low, middle)
    return (low + high) / 2


def _within(t: float, degrees: int) -> float:
    """Return the probability that the absolute value is at most ``t``."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for step in range(odd, degrees - 1, 2):
        total += term
        term *= cosine**2 * (step + 1) / (step + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def _repeated(label: str, calls: int, reports: Sequence[Report]) -> Repeated:
    totals = [report.total for report in reports]
    energies = [
        (total.joules / calls, total.low / calls, total.high / calls)
        for total in totals
        if total.joules is not None and total.low is not None and total.high is not None
    ]
    carbons = [
        (carbon.grams / calls, carbon.low / calls, carbon.high / calls)
        for report in reports
        if (carbon := report.carbon) is not None
    ]
    times = [(report.seconds / calls,) * 3 for report in reports]
    complete = len(energies) == len(reports)
    weakest = max(totals, key=lambda total: GRADES.index(total.grade))
    return Repeated(
        label=label,
        n=len(reports),
        calls=calls,
        energy=estimate(energies) if complete else None,
        seconds=estimate(times),
        grams=estimate(carbons) if complete and len(carbons) == len(reports) else None,
        grade=weakest.grade,
        source=weakest.source,
        devices=frozenset[str]().union(*map(known_devices, reports)),
        notes=tuple(_notes(reports)),
    )


def _notes(reports: Sequence[Report]) -> list[str]:
    notes = []
    if len(reports) == 1:
        notes.append("one window shows no spread: the interval is that of the measurement alone")
    missing = {key for report in reports for key, part in report.energy.items() if part.joules is None}
    if missing and any(report.total.joules is not None for report in reports):
        notes.append(f"unknown, and not in the figure: {', '.join(sorted(missing))}")
    if any(report.total.grade == "bounded" for report in reports):
        notes.append("a window was shorter than a tick of a counter: raise min_window_seconds")
    return notes


def _check(function: object, repeat: int, warm_up: int, min_window_seconds: float) -> None:
    if not callable(function):
        raise TypeError(f"measure cannot call {function!r}: give a function, such as a lambda")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError("measure cannot await: give a function that runs the loop itself")
    if inspect.isgeneratorfunction(function):
        raise TypeError("calling a generator function runs nothing of it: give a function that consumes it")
    if repeat < 1:
        raise SettingsError(f"repeat is {repeat!r}: measure at least one window")
    if warm_up < 0:
        raise SettingsError(f"warm_up is {warm_up!r}: give 0 or more calls")
    if not (math.isfinite(min_window_seconds) and min_window_seconds >= 0):
        raise SettingsError(f"min_window_seconds is {min_window_seconds!r}: give 0 or more seconds")
