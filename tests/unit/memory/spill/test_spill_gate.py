"""What may not be moved stays, with the reason."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from titan_nb.memory.spill import gate, holders, spill


def _reason(thing: Any, *, disk: bool = True) -> str:
    done = spill(thing, disk=disk)
    assert done.moved == (), done
    (refused,) = done.refused
    return refused.reason


def _hooked() -> torch.Tensor:
    x = torch.nn.Parameter(torch.ones(3))
    x.register_hook(lambda gradient: gradient)
    return x


def _inference() -> torch.Tensor:
    with torch.inference_mode():
        return torch.ones(3)


def _in_numpy(thing: object) -> Any:
    array = np.empty(1, dtype=object)
    array[0] = thing
    return array


class _Mine(torch.Tensor):
    pass


ALONE: dict[str, tuple[Callable[[], Any], str]] = {
    "subclass": (lambda: torch.ones(3).as_subclass(_Mine), "_Mine"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "dense"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.quint8), "dense"),
    "meta": (lambda: torch.ones(3, device="meta"), "no memory"),
    "empty": (lambda: torch.ones(0), "no memory"),
    "view": (lambda: torch.ones(9)[:3], "view"),
    "non-leaf": (lambda: torch.nn.Parameter(torch.ones(3)) * 2, "autograd graph"),
    "hooked": (_hooked, "hooks"),
    "inference": (_inference, "inference mode"),
    "shared": (lambda: torch.ones(3).share_memory_(), "another process"),
    "numpy's": (lambda: torch.from_numpy(np.ones(3)), "NumPy"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", ALONE)
def test_a_kind_of_tensor_that_stays(case: str) -> None:
    make, words = ALONE[case]
    assert words in _reason(make())


def test_a_fake_tensor_stays() -> None:
    from torch._subclasses import FakeTensorMode

    assert "FakeTensor" in _reason(FakeTensorMode().from_tensor(torch.ones(3)))


def test_host_memory_is_left_only_for_the_disk() -> None:
    assert "host memory already" in _reason(torch.ones(3), disk=False)


@pytest.mark.parametrize(
    ("hold", "words"),
    [
        (lambda x: x[0], "a view, autograd or C++ code holds it"),
        (lambda x: x.numpy(), "NumPy"),
        (lambda x: x.detach(), "a view"),
        (lambda x: x.untyped_storage(), "shares its memory"),
        (weakref.ref, "weak reference"),
        (lambda x: x.requires_grad_() * 2, "holds it"),
        (lambda x: x.__dlpack__(), "a view, autograd"),
        (_in_numpy, "another thread or C code"),
    ],
)
def test_what_is_held_by_others_stays(hold: Callable[[Any], Any], words: str) -> None:
    x = torch.ones(3)
    held = hold(x)
    assert words in _reason(x)
    del held
    assert type(x) is torch.Tensor


def test_a_tensor_inside_a_transform_stays() -> None:
    reasons = []
    torch.vmap(lambda row: reasons.append(_reason(row)) or row)(torch.ones(2, 3))
    assert reasons == ["a transform of torch.func is at work on it"]


def test_a_tensor_that_another_thread_computes_on_stays() -> None:
    x = torch.randn(1500, 1500)
    stop, running = threading.Event(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            running.set()
            x.exp_().clamp_(0, 1)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert running.wait(20)
        for _ in range(5):
            # Between two operations it may be free for a moment; then the thread brings it back.
            for refused in spill(x, disk=True).refused:
                assert "is using it" in refused.reason or "C++ code holds it" in refused.reason
    finally:
        stop.set()
        thread.join(20)
    assert bool(((x >= 0) & (x <= 1)).all())


def test_locals_and_containers_of_this_thread_are_no_obstacle() -> None:
    def inner(argument: list[int]) -> list[bool]:
        in_a_cell, kept = argument, [argument, {"a": argument}]
        return [*(lambda: holders.held_out_of_sight([in_a_cell]))(), len(kept) == 0]

    thing = [1]
    assert inner(thing) == [False, False]
    assert holders.held_out_of_sight([thing]) == [False]
    hidden = _in_numpy(thing)
    assert holders.held_out_of_sight([thing, [], hidden]) == [True, False, False]


def test_cuda_graphs_keep_cuda_tensors_in_place() -> None:
    class Graph:
        pass

    assert not holders.instances(Graph)
    alive = Graph()
    assert holders.instances(Graph)
    del alive


def test_a_torch_that_cannot_count_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_idle_counts", lambda: None)
    assert "version of torch" in _reason(torch.ones(3))


def test_a_python_without_a_global_lock_moves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys._is_gil_enabled", lambda: False, raising=False)
    assert "global lock" in _reason(torch.ones(3))
