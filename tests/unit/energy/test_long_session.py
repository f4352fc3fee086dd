"""A session of a thousand cells on a GPU with a counter: memory stays flat, and the books stay balanced."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import psutil
import pytest

from tests.fakes.nvml import FakeGpu, FakeNvml
from titan_nb.energy.trace import MAX_POINTS
from titan_nb.ledger import Ledger
from titan_nb.tracker import Tracker

CELLS = 1000
WARM_UP = 400
MAX_GROWTH_BYTES = 2 * 2**20


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(30.0, id="reduced to half a minute"),
        pytest.param(600.0, id="ten minutes", marks=[pytest.mark.slow, pytest.mark.timeout(1200)]),
    ],
)
def test_memory_stays_flat(seconds: float, tmp_path: Path) -> None:
    fake = FakeNvml(tmp_path, [FakeGpu(duty=1.0)])
    sizes: dict[int, int] = {}
    with fake.in_process():
        # So few reports that the session's own history is full long before the warm-up ends.
        tracker = Tracker(ledger=Ledger(limit=50))
        tracker.meter.status()
        first = tracker.begin()
        (key,) = (one for one in first.settle().energy if one.startswith("gpu:"))
        began = time.monotonic()
        for number in range(CELLS + 1):
            if number in (WARM_UP, CELLS):
                gc.collect()
                sizes[number] = psutil.Process().memory_info().rss
            run = tracker.begin()
            if number % 5 == 0:
                with fake.load(0, 700.0):
                    time.sleep(0.2 * seconds / CELLS)
            report = run.finish("error" if number % 7 == 0 else "ok")
            assert report.energy[key].grade in ("bounded", "measured", "unknown", "shared")
            time.sleep(max(0.0, began + (number + 1) * seconds / CELLS - time.monotonic()))
        report = run.settle()
        (watch,) = tracker.meter._use.devices.watches
        accounts, points = len(watch.track._accounts), len(watch.track.trace)
        totals = tracker.ledger.totals
        tracker.close()
    growth = sizes[CELLS] - sizes[WARM_UP]
    print(f"{CELLS} cells in {seconds:.0f} s: {growth / 2**20:+.2f} MiB after the first {WARM_UP}")
    assert growth <= MAX_GROWTH_BYTES
    assert accounts <= 2
    assert points <= MAX_POINTS
    assert totals.cells == CELLS + 2
    assert run.window.ended is not None
    counted = (totals.energy[key].joules or 0.0) + (totals.gap_energy[key].joules or 0.0)
    true = fake.true_joules(0, first.window.started, run.window.ended)
    print(f"cells and gaps {counted:.1f} J, truth {true:.1f} J")
    assert counted == pytest.approx(true, rel=0.02)
