"""The session: every report in order, the gaps between cells, and totals that outlive a bounded history."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from titan_nb.records import Energy, Gap, Report

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Ledger", "Totals"]

DEFAULT_LIMIT = 10_000


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a session, including the reports that a bounded history has let go.

    Nested windows lie inside their parents and are not counted again.

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
        self._past = Totals()

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
            totals = self._past
            for report in self._reports.values():
                if report.parent is None:
                    totals = totals.with_report(report)
            return totals

    def next_number(self) -> int:
        """Return the number of the next report; a window takes it when it opens."""
        with self._lock:
            self._numbered += 1
            return self._numbered

    def add(self, report: Report) -> None:
        """Append ``report``, or put it in the place of the one with its number."""
        with self._lock:
            self._reports[report.number] = report
            self._trim()

    def refine(self, report: Report) -> bool:
        """Replace the report of the same number; return False if it is no longer kept."""
        with self._lock:
            if report.number not in self._reports:
                return False
            self._reports[report.number] = report
            return True

    def add_gap(self, gap: Gap) -> None:
        """Append ``gap``."""
        with self._lock:
            self._gaps.append(gap)
            if gap.energy:
                self._past = self._past.with_gap(gap)

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
            _, oldest = self._reports.popitem(last=False)
            if oldest.parent is None:
                self._past = self._past.with_report(oldest)


def _added(sums: dict[str, Energy], parts: object) -> dict[str, Energy]:
    """Return ``sums`` with ``parts`` added by key; an unknown part adds nothing."""
    result = dict(sums)
    for key, part in dict(parts).items():  # type: ignore[call-overload]
        if key not in result:
            result[key] = part
            continue
        total = Energy.sum({"so far": result[key], "this": part})
        source = part.source if part.joules is not None else result[key].source
        result[key] = Energy(total.joules, total.low, total.high, total.grade, source)
    return result
