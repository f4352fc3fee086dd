"""In a real kernel with a simulated GPU: cells and gaps hold their truth, however the cells end."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml import FakeGpu, FakeNvml
from tests.kernel.cell import Cell
from tests.kernel.kernel import Kernel

BUSY_WATTS, IDLE_WATTS = 700.0, 70.0
TICK_SECONDS = 0.03
REPORTS = """[
    (r.number, r.outcome, r.parent, [
        (e.joules, e.low, e.high, e.grade) for key, e in r.energy.items() if key.startswith("gpu")
    ])
    for r in __import__("titan_nb").ledger().reports
]"""
GAPS = """[
    (g.after, g.before, [(e.joules, e.low, e.high, e.grade) for e in g.energy.values()])
    for g in __import__("titan_nb").ledger().gaps
]"""
EDGES = "[(number, *span) for number, span in edges.items()]"
NOTE_EDGES = """
from titan_nb import run as _run
edges, _finish = {}, _run.Run.finish
def _noted(self, *args):
    report = _finish(self, *args)
    edges[self.number] = (self.window.started, self.window.ended)
    return report
_run.Run.finish = _noted
"""
"""The edges of each window, which the report does not hold."""

Part = tuple[float, float, float, str]


@pytest.fixture
def fake(tmp_path: Path) -> FakeNvml:
    return FakeNvml(tmp_path, [FakeGpu(duty=1.0, tick_seconds=TICK_SECONDS, idle_watts=IDLE_WATTS)])


@pytest.fixture
def kernel(fake: FakeNvml) -> Iterator[Kernel]:
    with Kernel(sys.executable, environment={**fake.environment({})}) as kernel:
        assert kernel.run(Cell("%load_ext titan_nb", store_history=False)).status == "ok"
        assert kernel.run(Cell(NOTE_EDGES, store_history=False)).status == "ok"
        yield kernel


def holds(part: Part, true: float) -> bool:
    _, low, high, _ = part
    return low - 1e-3 <= true <= high + 1e-3


def test_cells_and_gaps_add_up_to_the_counter(kernel: Kernel, fake: FakeNvml) -> None:
    """Cells that end well, fail, are interrupted, await, and hold blocks of their own."""
    idle = Cell("import time, asyncio, titan_nb\ntime.sleep(0.3)")
    busy: tuple[Cell, ...] = (
        Cell("time.sleep(0.2)"),
        Cell("time.sleep(0.1)\n1 / 0"),
        Cell("await asyncio.sleep(0.15)"),
        Cell("time.sleep(30)", interrupt_after_seconds=0.3),
        Cell("with titan_nb.track():\n    time.sleep(0.1)\ntime.sleep(0.05)"),
        Cell("pass"),
        Cell("time.sleep(0.1)"),
    )
    statuses = [kernel.run(cell).status for cell in (Cell("%titan on"), idle)]
    for cell in busy:
        with fake.load(0, BUSY_WATTS):
            statuses.append(kernel.run(cell).status)
        time.sleep(0.12)
    statuses.append(kernel.run(idle).status)
    assert statuses == ["ok", "ok", "ok", "error", "ok", "error", "ok", "ok", "ok", "ok"]
    kernel.run(Cell("time.sleep(0.3)", store_history=False))
    reports = {
        number: (outcome, parent, parts) for number, outcome, parent, parts in kernel.evaluate(REPORTS)
    }
    gaps = {(after, before): parts for after, before, parts in kernel.evaluate(GAPS)}
    edges = {number: (begin, end) for number, begin, end in kernel.evaluate(EDGES)}
    assert [outcome for outcome, _, _ in reports.values()].count("interrupted") == 1
    assert [outcome for outcome, _, _ in reports.values()].count("error") == 1
    assert sum(parent is not None for _, parent, _ in reports.values()) == 1

    outermost = [number for number, (_, parent, _) in reports.items() if parent is None]
    counted, first_counted = 0.0, outermost[1]  # in the very first one the GPU was still being found
    for number, (_, parent, (part,)) in list(reports.items())[1:]:
        true = fake.true_joules(0, *edges[number])
        print(f"report {number}: {part[0]:.2f} J ({part[1]:.2f} to {part[2]:.2f}), truth {true:.2f}")
        assert holds(part, true)
        counted += 0.0 if parent is not None else part[0]
    for after, before in itertools.pairwise(outermost[1:]):
        (part,) = gaps[after, before]
        true = fake.true_joules(0, edges[after][1], edges[before][0])
        print(f"gap {after}-{before}: {part[0]:.2f} J ({part[1]:.2f} to {part[2]:.2f}), truth {true:.2f}")
        assert holds(part, true)
        assert part[0] >= 0
        counted += part[0]
    true = fake.true_joules(0, edges[first_counted][0], edges[outermost[-1]][1])
    print(f"together {counted:.2f} J, truth {true:.2f} J")
    # Where one ends another begins. At the outer edges, where the GPU idles, a tick is shared with what lies
    # outside.
    assert counted == pytest.approx(true, abs=2 * IDLE_WATTS * TICK_SECONDS)


def test_a_driver_that_is_lost_costs_one_line_and_comes_back(kernel: Kernel, fake: FakeNvml) -> None:
    def gpu(cell: str) -> tuple[Any, str]:
        seen = kernel.run(Cell(cell))
        assert seen.status == "ok"
        time.sleep(0.15)
        return kernel.evaluate(REPORTS)[-1][3], seen.text

    body = "import time\ntime.sleep(0.1)\n40 + 2"
    known, _ = gpu("%%titan\n" + body)
    assert len(known) == 1
    known, _ = gpu("%%titan\n" + body)
    assert known[0][0] > 0
    fake.vanish(0)
    _, text = gpu("%%titan\n" + body)
    # The window that the loss falls into may still have its figure; the ones after it are unknown.
    later = [gpu("%%titan\n" + body) for _ in range(2)]
    assert later[-1][0][0][3] == "unknown"
    assert sum(line.startswith("titan:") for line in (text + later[0][1] + later[1][1]).splitlines()) <= 1
    fake.come_back(0)
    deadline = time.monotonic() + 60
    back: Any = later[-1][0]
    while back[0][3] == "unknown" and time.monotonic() < deadline:
        back, _ = gpu("%%titan\n" + body)
    assert back[0][0] > 0
