"""What the room asks of somebody who knows the intensity of a grid now, with a null and a fake one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from titan_nb.carbon.web import NoAnswer

__all__ = ["Answer", "FakeProvider", "Kind", "NullProvider", "Provider"]

Kind = Literal["average", "marginal"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said of one grid.

    Attributes:
        grams_per_kwh: Intensity in g per kWh.
        low: Lower end in g per kWh; the intensity itself where the provider gives no interval.
        high: Upper end in g per kWh, likewise.
        at: The time for which it holds, in UTC.
        says: What the figure is, in the words of the report.
        kind: *average* or *marginal*.
    """

    grams_per_kwh: float
    low: float
    high: float
    at: datetime
    says: str
    kind: Kind = "average"


class Provider(Protocol):
    """Somebody who knows the intensity of some grids now.

    Attributes:
        name: Who it is, for people.
    """

    name: str

    def covers(self, grid: str) -> bool:
        """Return whether it can be asked for ``grid``, a code in capitals; looks nothing up."""
        ...

    def fetch(self, grid: str) -> Answer:
        """Ask for ``grid``; may take seconds, so it is called on a thread of its own.

        Raises:
            NoAnswer: If nothing came that can be used.
        """
        ...


class NullProvider:
    """Nobody: covers no grid."""

    name = "nobody"

    def covers(self, grid: str) -> bool:
        """Return False."""
        return False

    def fetch(self, grid: str) -> Answer:
        """Raise `NoAnswer`."""
        raise NoAnswer("nobody is to be asked")


class FakeProvider:
    """A provider for tests and demonstrations, which gives the answers that it was given, one after another.

    The last one is given again and again.

    Args:
        answers: Answers to give, and errors to raise.
        grids: The grids that it covers.
    """

    name = "a fake provider"

    def __init__(self, answers: Iterable[Answer | Exception], grids: Iterable[str] = ("DE",)) -> None:
        self._answers = list(answers)
        self._grids = frozenset(grids)
        self.asked: list[str] = []

    def covers(self, grid: str) -> bool:
        """Return whether ``grid`` is one of its grids."""
        return grid in self._grids

    def fetch(self, grid: str) -> Answer:
        """Give the next answer, or raise the next error."""
        self.asked.append(grid)
        answer = self._answers[0] if len(self._answers) == 1 else self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer
