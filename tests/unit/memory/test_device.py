from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.memory import device as room
from titan_nb.memory.device import device

pytestmark = pytest.mark.usefixtures("no_gpu")


@pytest.fixture(autouse=True)
def forget() -> Any:
    room._choose.cache_clear()
    yield
    room._choose.cache_clear()


def put(monkeypatch: pytest.MonkeyPatch, backend: str = "privateuseone", **parts: Any) -> None:
    c = SimpleNamespace(_get_privateuse1_backend_name=lambda: backend)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(_C=c, **parts))  # type: ignore[arg-type]


def gpus(count: int, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(device_count=lambda: count, is_initialized=lambda: False, **more)


def test_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = ["cuda", "xpu", "maker", "mps"]
    for here in range(len(kinds)):
        room._choose.cache_clear()
        counts = {kind: gpus(int(place >= here)) for place, kind in enumerate(kinds)}
        put(monkeypatch, "maker", **counts)
        assert device() == kinds[here]
    room._choose.cache_clear()
    put(monkeypatch, **{kind: gpus(0) for kind in kinds})
    assert device() == "cpu"


def test_the_one_in_use_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    xpu = gpus(1)
    xpu.is_initialized = lambda: True
    put(monkeypatch, cuda=gpus(1), xpu=xpu)
    assert device() == "xpu"


def test_it_is_chosen_once_and_anew_in_a_forked_child(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = gpus(1, _is_in_bad_fork=lambda: os.getpid() == 7)
    put(monkeypatch, cuda=cuda)
    assert device() == "cuda"
    cuda.device_count = lambda: 0
    assert device() == "cuda"
    cuda.device_count = lambda: 1
    monkeypatch.setattr(os, "getpid", lambda: 7)
    assert device() == "cpu"


def test_a_driver_that_raises_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise RuntimeError("driver mismatch")

    put(monkeypatch, cuda=SimpleNamespace(device_count=fail), xpu=SimpleNamespace(is_available=lambda: True))
    assert device() == "xpu"


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # type: ignore[arg-type]
    assert device() == "cpu"


def test_the_real_torch_is_not_started() -> None:
    code = (
        "import torch; from titan_nb.memory.device import device; found = device(); "
        "assert not torch.cuda.is_initialized(); torch.empty(1, device=found); print(device() == found)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
