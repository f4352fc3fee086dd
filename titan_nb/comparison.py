"""Is the second of two figures better, worse, or can nobody tell: from their intervals alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from titan_nb.records import Report
from titan_nb.repeat import Estimate, Repeated, known_devices

__all__ = ["Compared", "Ratio", "Verdict", "compare"]

Verdict = Literal["better", "worse", "cannot tell"]

ONE_RUN = "one run has no spread: measure both with titan_nb.measure"
OVERLAP = "the intervals overlap"
SAME_ERROR = (
    "an error that both figures share, such as that of the counter or the model, is not cancelled: "
    "the true interval of the energy's ratio may be narrower"
)
ONE_OF_EACH = (
    "a single run says nothing about how much runs differ: the intervals are those of the measurement"
)
NOT_ALIKE = "the two were not measured on the same devices"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The second figure divided by the first.

    Attributes:
        verdict: *better* where all of the interval lies below 1, *worse* where all of it lies above.
        value: The ratio of the best estimates; None when unknown.
        low: Lower end of its interval; None when there is none.
        high: Upper end of its interval; None when there is none, or no upper bound.
        why: Why nobody can tell; empty otherwise.
    """

    verdict: Verdict
    value: float | None
    low: float | None
    high: float | None
    why: str = ""

    @property
    def texts(self) -> tuple[str, str, str, str]:
        """Verdict, ratio, interval and reason as short texts; empty where there is none."""
        if self.value is None or self.low is None:
            return self.verdict, "", "", self.why
        top = "no upper end" if self.high is None else f"{self.high:.3g}"
        return self.verdict, f"{self.value:.3g} ×", f"{self.low:.3g}–{top}", self.why

    def __str__(self) -> str:
        """Return it in words, such as ``better: 0.62 × (0.55–0.70)``."""
        verdict, ratio, interval, why = self.texts
        figure = f"{ratio} ({interval})" if interval else ""
        return f"{verdict}: {', '.join(filter(None, (figure, why)))}"


@dataclass(frozen=True, slots=True, repr=False)
class Compared:
    """The second of two measurements beside the first; see `compare`.

    Attributes:
        first: What the first one is called.
        second: What the second one is called.
        energy: The ratio of their energies.
        time: The ratio of their wall times.
        carbon: The ratio of their greenhouse gas.
        notes: What the reader must know.
    """

    first: str
    second: str
    energy: Ratio
    time: Ratio
    carbon: Ratio
    notes: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """Whether the second one uses less energy."""
        return self.energy.verdict

    def __repr__(self) -> str:
        """Return it in a few lines."""
        lines = [f"{self.second} against {self.first}"]
        lines += [f"  {name:<7} {getattr(self, name)}" for name in ("energy", "time", "carbon")]
        return "\n".join([*lines, *(f"  - {note}" for note in self.notes)])


def compare(first: Report | Repeated, second: Report | Repeated) -> Compared:
    """Say whether ``second`` is better than ``first``, worse, or whether nobody can tell.

    The ratio is that of the second to the first, and its interval goes from the low end of the second over
    the high end of the first to the high end of the second over the low end of the first. That holds however
    the two errors depend on each other, and is wider than it need be where they have one in common.

    Args:
        first: A report, or what `measure` returned.
        second: The same; the two may be of different kinds.

    Raises:
        TypeError: If one of them is neither.
    """
    for one in (first, second):
        if not isinstance(one, (Report, Repeated)):
            raise TypeError(f"cannot compare {one!r}: give a Report, or what titan_nb.measure returned")
    notes = [SAME_ERROR]
    if _runs(first) == 1 or _runs(second) == 1:
        notes.append(ONE_OF_EACH)
    if _devices(first) != _devices(second):
        notes.append(NOT_ALIKE)
    return Compared(
        first=_name(first),
        second=_name(second),
        energy=_ratio(_energy(first), _energy(second), "the energy is unknown"),
        time=_ratio(_seconds(first), _seconds(second), ONE_RUN),
        carbon=_ratio(_grams(first), _grams(second), "the carbon is unknown"),
        notes=tuple(notes),
    )


def _ratio(first: Estimate | None, second: Estimate | None, missing: str) -> Ratio:
    if first is None or second is None:
        return Ratio("cannot tell", None, None, None, missing)
    if first.mean <= 0:
        return Ratio("cannot tell", None, None, None, "the first figure is zero")
    value = second.mean / first.mean
    low = second.low / first.high
    high = second.high / first.low if first.low > 0 else math.inf
    top = high if math.isfinite(high) else None
    if high < 1:
        return Ratio("better", value, low, top)
    if low > 1:
        return Ratio("worse", value, low, top)
    return Ratio("cannot tell", value, low, top, OVERLAP)


def _energy(one: Report | Repeated) -> Estimate | None:
    if isinstance(one, Repeated):
        return one.energy
    total = one.total
    if total.joules is None or total.low is None or total.high is None:
        return None
    return Estimate(total.joules, None, total.low, total.high)


def _seconds(one: Report | Repeated) -> Estimate | None:
    """Return the time of a call; a single time is exact, and so can be compared with nothing."""
    return one.seconds if isinstance(one, Repeated) and one.n > 1 else None


def _grams(one: Report | Repeated) -> Estimate | None:
    if isinstance(one, Repeated):
        return one.grams
    carbon = one.carbon
    return None if carbon is None else Estimate(carbon.grams, None, carbon.low, carbon.high)


def _runs(one: Report | Repeated) -> int:
    return one.n if isinstance(one, Repeated) else 1


def _devices(one: Report | Repeated) -> frozenset[str]:
    return one.devices if isinstance(one, Repeated) else known_devices(one)


def _name(one: Report | Repeated) -> str:
    if isinstance(one, Repeated) or one.label:
        return repr(one.label)
    return f"report {one.number}"
