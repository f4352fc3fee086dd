from __future__ import annotations

import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.energy.load import Beside, TorchLoad
from titan_nb.errors import SensorError


class Torch(SimpleNamespace):
    """A stand-in for torch: a device that works through a queue, on a clock of its own.

    Args:
        tflops: How fast it multiplies.
        uuid: Of the device; None for a torch that does not tell.
    """

    __version__ = "2.9"
    float16 = "float16"

    def __init__(self, tflops: float = 100.0, uuid: str | None = "8f3a", devices: int = 1) -> None:
        super().__init__()
        self.free_at = 0.0
        self.speed = tflops * 1e12
        self.products = 0
        self.waited_for_device = 0
        self.properties = SimpleNamespace() if uuid is None else SimpleNamespace(uuid=uuid)
        self.cuda = SimpleNamespace(
            is_available=lambda: devices > 0,
            device_count=lambda: devices,
            set_device=lambda index: setattr(self, "device", index),
            get_device_properties=lambda index: self.properties,
            Event=self.event,
        )

    def randn(self, rows: int, columns: int, *, dtype: str, device: str) -> Any:
        assert (rows, dtype, device) == (columns, "float16", "cuda")
        return rows

    empty = randn

    def mm(self, left: int, right: int, *, out: int) -> None:
        self.products += 1
        self.free_at = max(self.free_at, time.perf_counter()) + 2 * left * right * out / self.speed

    def event(self, *, enable_timing: bool, blocking: bool) -> Any:
        assert enable_timing
        assert blocking
        event = SimpleNamespace(at=0.0)

        def synchronize() -> None:
            self.waited_for_device += 1
            time.sleep(max(0.0, event.at - time.perf_counter()))

        event.record = lambda: setattr(event, "at", max(self.free_at, time.perf_counter()))
        event.synchronize = synchronize
        event.elapsed_time = lambda later: (later.at - event.at) * 1e3
        return event


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Torch:
    torch = Torch()
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def test_the_product_lasts_half_a_millisecond_or_more(torch: Torch) -> None:
    load = TorchLoad()
    assert load.open() == "GPU-8f3a"
    # 2 n^3 / 100 TFLOPS: 0.17 ms with 2048 rows, 1.4 ms with 4096.
    assert load.name == "torch 2.9, products of 4096 x 4096 float16 matrices"
    assert torch.device == 0


@pytest.mark.parametrize("tflops", [1e6, 1.0])
def test_the_matrices_stay_within_bounds(monkeypatch: pytest.MonkeyPatch, tflops: float) -> None:
    monkeypatch.setitem(sys.modules, "torch", Torch(tflops, uuid=None))
    load = TorchLoad()
    assert load.open() is None
    assert ("8192" if tflops > 1 else "1024") in load.name


@pytest.mark.parametrize("seconds", [0.01, 0.1, 0.5])
def test_it_works_for_about_as_long_as_asked(torch: Torch, seconds: float) -> None:
    load = TorchLoad()
    load.open()
    before, waits = torch.products, torch.waited_for_device
    begin = time.perf_counter()
    busy = load.run(seconds)
    assert begin <= busy.begin < busy.end <= time.perf_counter() + 1e-3
    assert busy.end - busy.begin == pytest.approx(seconds, abs=0.1)
    assert torch.products > before
    # A long load waits for its chunks, so that no more than a few are in the queue.
    assert (torch.waited_for_device - waits > 3) is (seconds > 0.2)


@pytest.mark.parametrize("devices", [0, 1])
def test_without_the_device_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch, devices: int) -> None:
    monkeypatch.setitem(sys.modules, "torch", Torch(devices=devices))
    with pytest.raises(SensorError, match=r"sees no CUDA device 1 .*CUDA_VISIBLE_DEVICES"):
        TorchLoad(1).open()


def test_without_torch_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(SensorError, match="pip install torch"):
        TorchLoad().open()


def test_a_load_is_opened_before_it_runs(torch: Torch) -> None:
    load = TorchLoad()
    load._torch, load._product_seconds = torch, 1e-3
    with pytest.raises(SensorError, match="open"):
        load.run(0.01)


def test_a_job_beside_gives_its_result_or_its_error() -> None:
    go = threading.Event()
    job = Beside(lambda: go.wait(5))
    assert job.running
    go.set()
    assert job.result() is True
    assert not job.running

    def fail() -> None:
        raise SensorError("out of memory")

    with pytest.raises(SensorError, match="out of memory"):
        Beside(fail).result()
