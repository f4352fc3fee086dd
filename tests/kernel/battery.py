"""Runs cases in a kernel and keeps what they showed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.cases import Case
from tests.kernel.cell import MODES, PLAIN, PLAIN_LINE, Cell
from tests.kernel.kernel import Kernel
from tests.kernel.transcript import difference, first_line_masked, transcript

__all__ = ["SETUPS", "TITAN_REPORTS", "Seen", "play", "verdict"]

SETUPS = dict.fromkeys(MODES, "%load_ext titan_nb") | {"%titan on": "%load_ext titan_nb\n%titan on"}
"""The cell that makes a kernel ready for a mode."""

TITAN_REPORTS = "len(__import__('titan_nb').ledger().reports)"


@dataclass(frozen=True)
class Seen:
    """What one case showed in one mode.

    Attributes:
        lines: The transcript of all its cells.
        reports: By how many the ledger grew.
        shown: How many reports were displayed.
    """

    lines: tuple[str, ...]
    reports: int
    shown: int


def play(
    python: str | Path,
    cases: Iterable[Case],
    *modes: str,
    setup: str = "pass",
    count: str = "0",
    path: tuple[str | Path, ...] = (),
) -> dict[tuple[str, str], Seen]:
    """Run the cases in order in one kernel, and return what each showed by (name, mode).

    Args:
        python: The kernel's interpreter.
        cases: The cases.
        modes: One of `MODES`; or `PLAIN`, and with it `PLAIN_LINE` where the two forms differ.
        setup: The first cell, which loads the extension.
        count: Expression for the number of reports so far.
        path: Folders that go in front of the kernel's ``sys.path``.
    """
    seen = {}
    with Kernel(python, path=path) as kernel:
        started = kernel.run(Cell(setup, store_history=False))
        if started.status != "ok":
            raise RuntimeError(f"{setup!r} failed in the kernel:\n" + "\n".join(transcript(started, 0)))
        reports = kernel.evaluate(count)
        for case in cases:
            for mode in modes:
                if mode == PLAIN_LINE and not case.bare:
                    continue
                base = kernel.evaluate("get_ipython().execution_count")
                lines, shown = _run(kernel, case, mode, base - 1)
                before, reports = reports, kernel.evaluate(count)
                seen[case.name, mode] = Seen(tuple(lines), reports - before, shown)
    return seen


def _run(kernel: Kernel, case: Case, mode: str, base: int) -> tuple[list[str], int]:
    lines, shown = [], 0
    cells = [cell.typed(mode) for cell in case.cells]
    numbers = itertools.count(1)
    while cells:
        queue = [cells.pop(0)]
        while cells and cells[0].queued:
            queue.append(cells.pop(0))
        for observed in kernel.run_all(queue) if len(queue) > 1 else [kernel.run(queue[0])]:
            lines += [f"cell {next(numbers)}", *transcript(observed, base)]
            shown += len(observed.reports)
    return [first_line_masked(line) for line in lines] if case.first_line_recorded else lines, shown


def verdict(case: Case, mode: str, plain: dict[tuple[str, str], Seen], tracked: Seen) -> str:
    """Return why the case fails in ``mode``, or an empty string if it is as plain and tracked."""
    reference = MODES[mode]
    expected = plain.get((case.name, reference), plain[case.name, PLAIN])
    reasons = [difference(expected.lines, tracked.lines)]
    wanted = case.reports(mode)
    if tracked.reports != wanted:
        reasons.append(f"{tracked.reports} reports instead of {wanted}")
    if tracked.shown > wanted:
        reasons.append(f"{tracked.shown} reports shown, of {wanted}")
    return "\n".join(reason for reason in reasons if reason)
