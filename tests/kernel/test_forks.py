"""Child processes of tracked cells: none hangs, none measures, none writes, and the parent goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.cell import Cell
from tests.kernel.kernel import Kernel

INSIDE = Path(__file__).parent / "inside"
BATCH = 10
REPORTS = "sum(r.label != 'thread' for r in __import__('titan_nb').ledger().reports)"


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel(sys.executable, path=(INSIDE,)) as kernel:
        # From 3.12 on Python warns of every fork of a process with threads, as a kernel is.
        setup = (
            "import warnings, torch, forked\nwarnings.filterwarnings('ignore', category=DeprecationWarning)"
        )
        assert kernel.run(Cell(f"%load_ext titan_nb\n{setup}")).status == "ok"
        yield kernel


def _run(kernel: Kernel, what: str, count: int) -> None:
    """Run ``what`` ``count`` times in tracked cells of `BATCH`; tell that all children were right."""
    began = time.monotonic()
    right = 0
    problems: list[str] = []
    for start in range(0, count, BATCH):
        number = min(BATCH, count - start)
        before = kernel.evaluate(REPORTS)
        cell = kernel.run(f"%%titan\nforked.{what.replace('COUNT', str(number))}")
        assert cell.status == "ok", cell
        assert not cell.text, cell.text
        good, found = kernel.evaluate("_")
        right += good
        problems += found
        assert not problems, f"{what}: {start + good} right, then {problems}"
        assert kernel.evaluate(REPORTS) == before + 1, "the parent's one report only"
        assert kernel.run(f"{start} + 1").result == str(start + 1)
    print(f"{what}: {right} of {count} children right, {time.monotonic() - began:.1f} s")
    assert right == count


def test_os_fork_100_times(kernel: Kernel) -> None:
    _run(kernel, "forks(COUNT)", 100)


def test_os_fork_100_times_while_threads_use_titan(kernel: Kernel) -> None:
    """A lock that another thread holds at the moment of the fork is held in the child for ever."""
    _run(kernel, "forks_beside_threads(COUNT)", 100)


def test_multiprocessing_fork_100_times(kernel: Kernel) -> None:
    _run(kernel, "processes(COUNT, 'fork')", 100)


def test_multiprocessing_spawn_100_times(kernel: Kernel) -> None:
    _run(kernel, "processes(COUNT, 'spawn')", 100)


def test_data_loader_with_two_workers_100_times(kernel: Kernel) -> None:
    _run(kernel, "data_loader(COUNT)", 100)


def test_subprocess_100_times(kernel: Kernel) -> None:
    _run(kernel, "programs(COUNT)", 100)


def test_a_child_leaves_the_high_water_mark_of_its_parent_alone(kernel: Kernel) -> None:
    """The file that resets the mark stays open, and through it a child would reset its parent's."""
    gained = [kernel.evaluate("__import__('forked').resident_peak()") for _ in range(5)]
    print(f"peaks of 64 MiB before a fork, as seen after it: {[round(n / 2**20, 1) for n in gained]} MiB")
    assert min(gained) >= 60 << 20


def test_no_child_is_left(kernel: Kernel) -> None:
    """But multiprocessing's own tracker of resources, which lives as long as its parent."""
    children = Path(f"/proc/{kernel.pid}/task/{kernel.pid}/children").read_text().split()
    names = [Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in children]
    assert not [name for name in names if "resource_tracker" not in name], names
