"""Two kernels side by side: one plain, one that tracks its cells."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.battery import SETUPS
from tests.kernel.cell import MODES, Cell
from tests.kernel.kernel import Kernel
from tests.kernel.observed import Observed
from tests.kernel.transcript import difference, transcript

__all__ = ["Pair", "paired"]

_REPORTS = "[(r.outcome, r.error) for r in __import__('titan_nb').ledger().reports]"

Outcomes = list[tuple[str, str | None]]


@dataclass(frozen=True)
class Pair:
    """A plain kernel, and one that tracks its cells in ``mode``."""

    mode: str
    plain: Kernel
    tracked: Kernel

    def outcomes(self) -> Outcomes:
        """Return outcome and error of every report so far."""
        outcomes: Outcomes = self.tracked.evaluate(_REPORTS)
        return outcomes

    def same(self, plain_code: str, code: str, *, reports: int = 1) -> Observed:
        """Run two cells, assert that they show the same, and that the second leaves so many reports."""
        (observed,), outcomes = self._compared([Cell(plain_code)], [Cell(code)])
        assert len(outcomes) == reports, f"{code!r} left {outcomes}"
        return observed

    def same_typed(self, *cells: Cell) -> tuple[list[Observed], Outcomes]:
        """Run cells as typed in each mode, all at once, and assert that they show the same.

        Returns:
            What the tracked ones showed, and the outcomes of their reports.
        """
        return self._compared(
            [cell.typed(MODES[self.mode]) for cell in cells], [cell.typed(self.mode) for cell in cells]
        )

    def _compared(self, plain: Sequence[Cell], tracked: Sequence[Cell]) -> tuple[list[Observed], Outcomes]:
        before = len(self.outcomes())
        _, expected = _run(self.plain, plain)
        observed, seen = _run(self.tracked, tracked)
        assert not difference(expected, seen), f"\n{difference(expected, seen)}"
        return observed, self.outcomes()[before:]


def _run(kernel: Kernel, cells: Sequence[Cell]) -> tuple[list[Observed], list[str]]:
    base = kernel.evaluate("get_ipython().execution_count") - 1
    seen = kernel.run_all(cells) if len(cells) > 1 else [kernel.run(cells[0])]
    return seen, [line for observed in seen for line in transcript(observed, base)]


@contextlib.contextmanager
def paired(python: str | Path, mode: str) -> Iterator[Pair]:
    """Start two kernels, and make one of them ready for ``mode``."""
    with Kernel(python) as plain, Kernel(python) as tracked:
        plain.run("pass")
        started = tracked.run(SETUPS[mode])
        if started.status != "ok":
            raise RuntimeError("\n".join(transcript(started, 0)))
        yield Pair(mode, plain, tracked)
