"""The session: every report in order, the gaps between cells, and totals that outlive a bounded history."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from titan_nb.records import Carbon, Cost, Energy, Gap, Report

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Ledger", "Totals"]

DEFAULT_LIMIT = 10_000

NEWEST = 64
"""So many reports may still be refined without all of them being added up again."""

_OVERLAPS = 16
"""So many overlaps may still wait for a report: a cell's comes after its value has been stored."""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a session, including the reports that a bounded history has let go.

    Nested windows lie inside their parents and are not counted again; of windows that overlap, each counts
    with its part of what all of them took together.

    Attributes:
        cells: How many outermost windows there were.
        failed: How many of them ended with an error or an interrupt.
        seconds: Wall time in the windows, in seconds.
        cpu_seconds: CPU time in the windows, in seconds.
        energy: Sums by device key.
        gap_energy: Sums of the gaps by device key; counters only.
        unknown: In how many windows a device was unknown, by device key: there its sum is a lower bound.
        grams: Grams of CO2e over the cells whose carbon is known; None when there is none.
        grams_unknown: How many cells have no carbon figure.
    """

    cells: int = 0
    failed: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    energy: dict[str, Energy] = field(default_factory=dict)
    gap_energy: dict[str, Energy] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    grams: float | None = None
    grams_unknown: int = 0

    def with_report(self, report: Report) -> Totals:
        """Return these totals with one more outermost report."""
        grams, unknown = self.grams, self.grams_unknown
        if report.carbon is None:
            unknown += 1
        else:
            grams = (grams or 0.0) + report.carbon.grams
        missing = dict(self.unknown)
        for key, part in report.energy.items():
            if part.joules is None:
                missing[key] = missing.get(key, 0) + 1
        return dataclasses.replace(
            self,
            cells=self.cells + 1,
            failed=self.failed + (report.outcome != "ok"),
            seconds=self.seconds + report.seconds,
            cpu_seconds=self.cpu_seconds + report.cpu_seconds,
            energy=_added(self.energy, report.energy),
            unknown=missing,
            grams=grams,
            grams_unknown=unknown,
        )

    def with_gap(self, gap: Gap) -> Totals:
        """Return these totals with one more gap."""
        return dataclasses.replace(self, gap_energy=_added(self.gap_energy, gap.energy))


@dataclass(frozen=True, slots=True)
class _Overlap:
    """What windows that overlapped took together; see `Ledger.overlap`."""

    numbers: Collection[int]
    seconds: float
    cpu_seconds: float
    energy: Mapping[str, Energy]


class Ledger:
    """The reports of one session.

    Args:
        limit: How many reports are kept; the oldest go first, their figures stay in `totals`.
    """

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self._lock = threading.Lock()
        self._limit = limit
        self._numbered = 0
        self._clear()

    def _clear(self) -> None:
        self._reports: OrderedDict[int, Report] = OrderedDict()
        self._gaps: deque[Gap] = deque(maxlen=self._limit)
        # Reports of overlapping windows, as the totals count them.
        self._counted: dict[int, Report] = {}
        self._overlaps: deque[_Overlap] = deque(maxlen=_OVERLAPS)
        # The totals of what was let go; of that and all reports but the newest, which may yet be refined.
        # None when it must be added up anew: that takes its time, so only who asks for the totals waits.
        self._past = Totals()
        self._settled: Totals | None = self._past
        self._newest: deque[int] = deque()

    def unlock(self) -> None:
        """Take a new lock in a forked child: a thread that is not there any more may hold the old one."""
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        """How many reports are kept."""
        return self._limit

    @limit.setter
    def limit(self, value: int) -> None:
        with self._lock:
            self._limit = value
            self._gaps = deque(self._gaps, maxlen=value)
            self._trim()

    @property
    def reports(self) -> tuple[Report, ...]:
        """The reports that are kept, by number."""
        with self._lock:
            return tuple(sorted(self._reports.values(), key=lambda report: report.number))

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """The gaps that are kept, in order."""
        with self._lock:
            return tuple(self._gaps)

    @property
    def totals(self) -> Totals:
        """Sums over the whole session."""
        with self._lock:
            totals = self._settled = self._settled or self._added_up()
            for number in self._newest:
                totals = self._with(totals, number)
            return totals

    def next_number(self) -> int:
        """Return the number of the next report; a window takes it when it opens."""
        with self._lock:
            self._numbered += 1
            return self._numbered

    def add(self, report: Report) -> None:
        """Append ``report``, or put it in the place of the one with its number."""
        with self._lock:
            if report.number in self._reports:
                self._replace(report)
                return
            self._reports[report.number] = report
            self._newest.append(report.number)
            if len(self._newest) > NEWEST:
                self._settle(self._newest.popleft())
            self._trim()
            for overlap in self._overlaps:
                if report.number in overlap.numbers:
                    self._count(overlap)

    def refine(self, report: Report) -> bool:
        """Replace the report of the same number; return False if it is no longer kept."""
        with self._lock:
            if report.number not in self._reports:
                return False
            self._replace(report)
            return True

    def overlap(
        self, numbers: Collection[int], seconds: float, cpu_seconds: float, energy: Mapping[str, Energy]
    ) -> None:
        """Have the totals count windows that overlapped by what they took together.

        Each counts with the part that its own figure has in the sum of theirs.

        Args:
            numbers: The outermost windows among them, also those whose report is still to come.
            seconds: Wall time from the first start to the last end, in seconds.
            cpu_seconds: CPU time in it, in seconds.
            energy: Energy in it, by device key.
        """
        overlap = _Overlap(numbers, seconds, cpu_seconds, energy)
        with self._lock:
            self._overlaps.append(overlap)
            self._count(overlap)

    def add_gap(self, gap: Gap) -> None:
        """Append ``gap``."""
        with self._lock:
            self._gaps.append(gap)
            if gap.energy:
                self._past = self._past.with_gap(gap)
                if self._settled is not None:
                    self._settled = self._settled.with_gap(gap)

    def reset(self) -> None:
        """Forget all reports, gaps and totals; numbers go on, because a window may be open."""
        with self._lock:
            self._clear()

    def to_frame(self) -> pd.DataFrame:
        """Return one row per report, with the unit in each column's name."""
        import pandas as pd

        from titan_nb.rows import COLUMNS, row

        frame: pd.DataFrame = pd.DataFrame([row(report) for report in self.reports], columns=list(COLUMNS))
        frame["started"] = pd.to_datetime(frame["started"], utc=True)
        return frame

    def _trim(self) -> None:
        while len(self._reports) > self._limit:
            oldest = next(iter(self._reports))
            self._past = self._with(self._past, oldest)
            if oldest in self._newest:
                self._newest.remove(oldest)
                self._settle(oldest)
            del self._reports[oldest]
            self._counted.pop(oldest, None)

    def _with(self, totals: Totals, number: int) -> Totals:
        report = self._counted.get(number, self._reports[number])
        return totals if report.parent is not None else totals.with_report(report)

    def _replace(self, report: Report) -> None:
        self._reports[report.number] = report
        self._changed(report.number)

    def _changed(self, number: int) -> None:
        if number not in self._newest:
            self._settled = None

    def _settle(self, number: int) -> None:
        """Add a report to those that do not change as a rule."""
        if self._settled is not None:
            self._settled = self._with(self._settled, number)

    def _added_up(self) -> Totals:
        totals = self._past
        for number in self._reports:
            if number not in self._newest:
                totals = self._with(totals, number)
        return totals

    def _count(self, overlap: _Overlap) -> None:
        """Divide what overlapping windows took together among those that have a report."""
        reports = [self._reports[number] for number in overlap.numbers if number in self._reports]
        parts = _divided(overlap.energy, reports)
        wall = sum(report.seconds for report in reports)
        cpu = sum(report.cpu_seconds for report in reports)
        for report, part in zip(reports, parts, strict=True):
            self._counted[report.number] = dataclasses.replace(
                report,
                seconds=report.seconds * overlap.seconds / wall if wall else 0.0,
                cpu_seconds=report.cpu_seconds * overlap.cpu_seconds / cpu if cpu else 0.0,
                energy=part,
                carbon=_scaled(report, Energy.sum(part)),
                cost=_scaled_cost(report, Energy.sum(part)),
            )
            self._changed(report.number)


def _divided(energy: Mapping[str, Energy], reports: Sequence[Report]) -> list[dict[str, Energy]]:
    """Return each report's part of ``energy``, in proportion to its own figure for the device."""
    parts: list[dict[str, Energy]] = [dict(report.energy) for report in reports]
    for key, whole in energy.items():
        mine = [part[key].joules if key in part else None for part in parts]
        known = sum(joules for joules in mine if joules is not None)
        for part, joules in zip(parts, mine, strict=True):
            if joules is None or whole.joules is None or whole.low is None or whole.high is None:
                continue
            fraction = joules / known if known else 0.0
            part[key] = dataclasses.replace(
                part[key],
                joules=whole.joules * fraction,
                low=whole.low * fraction,
                high=whole.high * fraction,
                idle_joules=None if whole.idle_joules is None else whole.idle_joules * fraction,
            )
    return parts


def _scaled(report: Report, counted: Energy) -> Carbon | None:
    """Return the report's carbon for the energy that is counted of it."""
    whole, carbon = report.total, report.carbon
    if carbon is None or not whole.joules or counted.joules is None:
        return carbon
    grams = carbon.grams * counted.joules / whole.joules
    return dataclasses.replace(
        carbon,
        grams=grams,
        low=min(grams, carbon.low * (counted.low or 0.0) / (whole.low or 1.0)),
        high=max(grams, carbon.high * (counted.high or 0.0) / (whole.high or 1.0)),
    )


def _scaled_cost(report: Report, counted: Energy) -> Cost | None:
    """Return the report's cost for the energy that is counted of it."""
    whole, cost = report.total, report.cost
    if cost is None or not whole.joules or counted.joules is None:
        return cost
    part = counted.joules / whole.joules
    return dataclasses.replace(cost, amount=cost.amount * part, low=cost.low * part, high=cost.high * part)


def _added(sums: dict[str, Energy], parts: object) -> dict[str, Energy]:
    """Return ``sums`` with ``parts`` added by key; an unknown part adds nothing."""
    result = dict(sums)
    for key, part in dict(parts).items():  # type: ignore[call-overload]
        if key not in result:
            result[key] = part
            continue
        total = Energy.sum({"so far": result[key], "this": part})
        source = part.source if part.joules is not None else result[key].source
        result[key] = dataclasses.replace(total, source=source)
    return result
