from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from tests.unit.memory.counters import Counters
from titan_nb.host import process_id
from titan_nb.memory import stats
from titan_nb.memory.marks import Marks
from titan_nb.memory.peaks import Peaks
from titan_nb.memory.stats import memory_stats

pytestmark = pytest.mark.usefixtures("no_gpu")

RAM = f"ram:{process_id()}"
MB = 1 << 20


def test_the_host() -> None:
    row = memory_stats()[RAM]
    assert list(row) == [
        *("device", "name", "resident_bytes", "peak_bytes", "available_bytes", "total_bytes")
    ]
    assert (row["device"], row["name"]) == ("cpu", "this process")
    assert abs(row["resident_bytes"] - psutil.Process().memory_info().rss) < 20 * MB
    assert row["resident_bytes"] <= row["peak_bytes"]
    assert row["available_bytes"] < row["total_bytes"] == psutil.virtual_memory().total


def test_no_file_stays_open(monkeypatch: pytest.MonkeyPatch, descriptors: Any) -> None:
    marks = Marks()
    monkeypatch.setattr(stats, "marks_of", lambda pid: marks)
    before = descriptors()
    memory_stats()
    assert descriptors() == before


def test_what_nobody_knows_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    marks = Marks()
    monkeypatch.setattr(stats, "marks_of", lambda pid: marks)
    monkeypatch.setattr(marks.host, "resident", lambda: None)
    monkeypatch.setattr(marks.host._status, "_path", str(tmp_path / "none"))
    row = memory_stats()[RAM]
    assert (row["resident_bytes"], row["peak_bytes"]) == (None, None)


def test_a_kept_file_is_kept_while_somebody_measures(
    monkeypatch: pytest.MonkeyPatch, descriptors: Any
) -> None:
    marks = Marks()
    monkeypatch.setattr(stats, "marks_of", lambda pid: marks)
    peaks = Peaks(marks=marks)
    peaks.open().close()
    kept = descriptors()
    memory_stats()
    assert descriptors() == kept
    peaks.close()


def test_it_starts_and_imports_no_torch() -> None:
    code = (
        "import sys; from titan_nb.memory.stats import memory_stats as m; m(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    counters = Counters()
    counters.connect(monkeypatch, "cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (600, 1000))
    counters.blip(200)
    counters.hold(100, 160)
    peaks = Peaks(marks=Marks())
    peaks.open().close()
    rows = memory_stats()
    assert list(rows) == [RAM, "gpu:cuda0", "gpu:cuda1"]
    assert rows["gpu:cuda0"] == {
        "device": "cuda:0",
        "name": "A GPU",
        "allocated_bytes": 100,
        "reserved_bytes": 160,
        "cached_bytes": 60,
        "peak_bytes": 200,
        "free_bytes": 600,
        "total_bytes": 1000,
        "others_bytes": 240,
    }
    unused = rows["gpu:cuda1"]
    assert (unused["allocated_bytes"], unused["reserved_bytes"]) == (0, 0)
    assert (unused["free_bytes"], unused["total_bytes"], unused["others_bytes"]) == (None, None, None)
    torch.cuda.reset_peak_memory_stats(0)
    assert memory_stats()["gpu:cuda0"]["peak_bytes"] == 100
    peaks.close()


def test_a_gpu_that_answers_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    counters = Counters(1)
    counters.connect(monkeypatch, "cuda")

    def fail(index: int) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch._C, "_cuda_memoryStats", fail)
    row = memory_stats()["gpu:cuda0"]
    assert row.pop("device") == "cuda:0"
    assert set(row.values()) == {None}


def test_apple(monkeypatch: pytest.MonkeyPatch) -> None:
    mps = SimpleNamespace(current_allocated_memory=lambda: 10, driver_allocated_memory=lambda: 25)
    backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(mps=mps, backends=backends))  # type: ignore[arg-type]
    row = memory_stats()["gpu:mps0"]
    assert (row["allocated_bytes"], row["reserved_bytes"], row["cached_bytes"]) == (10, 25, 15)
    assert (row["device"], row["peak_bytes"], row["total_bytes"]) == ("mps:0", None, None)
