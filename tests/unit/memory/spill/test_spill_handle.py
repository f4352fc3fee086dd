"""A spilled tensor is the same object everywhere and comes back on first use, whatever that is."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from titan_nb.memory.spill import SpillError, restore, spill, spilled
from titan_nb.memory.spill.handle import is_handle


def _tensor() -> torch.Tensor:
    return torch.arange(1000.0).reshape(10, 100).clone()


def _spilled(tensor: torch.Tensor) -> torch.Tensor:
    done = spill(tensor, disk=True, names=["x"])
    assert [one.name for one in done.moved] == ["x"], done
    assert is_handle(tensor)
    return tensor


class _Squared(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


USES: dict[str, Callable[[torch.Tensor], Any]] = {
    "operator": lambda x: x + 1,
    "method": lambda x: x.sum(),
    "in place": lambda x: x.add_(1).clone(),
    "out": lambda x: torch.add(torch.ones(10, 100), 1, out=x).clone(),
    "in a list": lambda x: torch.cat([x, x]),
    "keyword": lambda x: torch.add(input=x, other=x, alpha=2),
    "index": lambda x: x[3, 4:],
    "as an index": lambda x: torch.arange(2000.0)[x.long()],
    "item": lambda x: x[1, 1].item(),
    "numpy": lambda x: x.numpy().copy(),
    "asarray": lambda x: np.asarray(x).copy(),
    "tolist": lambda x: x.tolist(),
    "repr": repr,
    "format": lambda x: f"{x}",
    "iter": lambda x: [row.sum() for row in x],
    "contains": lambda x: 5.0 in x,
    "storage": lambda x: x.untyped_storage().tolist(),
    "copy construct": lambda x: torch.as_tensor(x).clone(),
    "legacy constructor": lambda x: torch.Tensor(x).clone(),
    "dlpack": lambda x: torch.from_dlpack(x).clone(),
    "pickle": lambda x: pickle.loads(pickle.dumps(x)),
    "deepcopy": copy.deepcopy,
    "shallow copy": lambda x: copy.copy(x).clone(),
    "save": lambda x: torch.load(io.BytesIO(_saved(x))),
    "data": lambda x: x.data.clone(),
    "aten": lambda x: torch.ops.aten.mul(x, 3),
    "script": lambda x: torch.jit.script(torch.nn.ReLU())(x),
    "vmap": lambda x: torch.vmap(lambda row: row * 2)(x),
    "grad transform": lambda x: torch.func.grad(lambda a: (a * a).sum())(x),
    "functionalize": lambda x: torch.func.functionalize(lambda a: a.clone().add_(1))(x),
    "autograd function": lambda x: _Squared.apply(x),
    "foreach": lambda x: torch._foreach_add([x], 1),
    "set": lambda x: torch.empty(0).set_(x).clone(),
    "compiled": lambda x: torch.compile(lambda a: a * 2, backend="eager")(x),
}


def _saved(x: torch.Tensor) -> bytes:
    torch.save(x, file := io.BytesIO())
    return file.getvalue()


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return type(one) is type(other) and torch.equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(np.array_equal(one, other)) if isinstance(one, np.ndarray) else bool(one == other)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("use", USES)
def test_a_use_brings_back_what_was_there(use: str) -> None:
    expected, after = USES[use](before := _tensor()), before
    x = _spilled(_tensor())
    assert _same(expected, USES[use](x))
    x.sum()
    assert type(x) is torch.Tensor
    assert torch.equal(x, after)


def test_what_it_is_can_be_asked_without_bringing_it_back() -> None:
    x = torch.nn.Parameter(torch.arange(24.0).reshape(4, 6).clone())
    x.grad = torch.ones(4, 6)
    gradient, hash_before = x.grad, hash(x)
    _spilled(x)
    assert (x.shape, x.size(0), x.dtype, x.device) == ((4, 6), 4, torch.float32, torch.device("cpu"))
    assert (x.stride(), x.ndim, len(x), x.numel(), x.is_contiguous()) == ((6, 1), 2, 4, 24, True)
    assert (x.requires_grad, x.is_leaf, x.grad_fn, x.is_cpu, x.is_meta) == (True, True, None, True, False)
    assert isinstance(x, torch.Tensor)
    assert isinstance(x, torch.nn.Parameter)
    assert hash(x) == hash_before
    assert x.grad is gradient
    x.grad = None
    assert is_handle(x)
    x.add(1)
    assert type(x) is torch.nn.Parameter
    assert x.grad is None


def test_the_same_object_stays_in_every_place() -> None:
    x = _tensor()
    x.note = "mine"
    places: dict[Any, Any] = {"list": [x], x: "key"}
    _spilled(x)
    assert places["list"][0] is x
    assert places[x] == "key"
    assert x.note == "mine"
    assert vars(x).keys() == {"note", "_titan_spilled"}
    places["list"][0] += 1
    assert torch.equal(x, _tensor() + 1)
    assert vars(x) == {"note": "mine"}


def test_strides_and_offset_come_back_as_they_were() -> None:
    x = torch.empty_strided((5, 7), (1, 5)).copy_(torch.arange(35.0).reshape(5, 7))
    expected = x.clone()
    _spilled(x)
    assert x.stride() == (1, 5)
    assert torch.equal(x, expected)
    assert x.stride() == (1, 5)


def test_training_goes_on_as_if_nothing_had_moved() -> None:
    def trained(spilling: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.BatchNorm1d(30), torch.nn.Linear(30, 1))
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.randn(8, 20)).square().mean().backward()
            optimizer.step()
            if spilling:
                assert len(spill(model, optimizer, disk=True).moved) >= 20
        return [*model.state_dict().values()]

    assert all(map(torch.equal, trained(False), trained(True)))


def test_a_module_takes_a_spilled_parameter_as_its_own() -> None:
    weight = torch.nn.Parameter(torch.ones(3, 3))
    _spilled(weight)
    module = torch.nn.Linear(3, 3, bias=False)
    module.weight = weight
    assert [*module.parameters()] == [weight]
    assert torch.equal(module(torch.ones(1, 3)), torch.full((1, 3), 3.0))


@pytest.mark.parametrize("use", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_of_parameters_are_parameters(use: Callable[[Any], Any]) -> None:
    x = torch.nn.Parameter(torch.arange(6.0))
    made = use(_spilled(x))
    assert type(made) is torch.nn.Parameter
    assert torch.equal(made, x)


def test_autograd_that_meets_the_handle_first_gives_its_gradient() -> None:
    x = torch.nn.Parameter(torch.arange(6.0))
    x.grad = torch.ones(6)
    _spilled(x)
    y = _Squared.apply(x).sum()
    # The graph knows the placeholder, so the handle stays one and stands for the tensor.
    assert is_handle(x)
    copied = copy.deepcopy(x)
    assert torch.equal(copied, torch.arange(6.0))
    y.backward()
    assert torch.equal(x.grad, 2 * torch.arange(6.0) + 1)
    del y
    assert torch.equal(x.detach(), torch.arange(6.0))
    assert type(x) is torch.nn.Parameter
    assert torch.equal(x.grad, 2 * torch.arange(6.0) + 1)


def test_what_would_be_wrong_is_refused_and_loses_nothing() -> None:
    x = _spilled(_tensor())
    with pytest.raises(SpillError, match="x is spilled, and torch"):
        _traced(x)
    with pytest.raises(RuntimeError, match="incompatible tensor type"):
        torch.zeros(10, 100).data = x
    with pytest.raises(RuntimeError, match="Cannot access data pointer"):
        torch._C._to_dlpack(x)
    assert torch.equal(x, _tensor())


def test_a_gradient_that_is_spilled_is_used_as_one() -> None:
    gradient = _spilled(torch.ones(6))
    x = torch.nn.Parameter(torch.zeros(6))
    x.grad = gradient
    torch.optim.SGD([x], lr=1.0).step()
    assert torch.equal(x.detach(), -torch.ones(6))


@pytest.mark.parametrize("mode", ["fake", "vmap", "inference", "default device", "deterministic"])
def test_it_comes_back_whole_in_the_users_modes(mode: str) -> None:
    x = _spilled(_tensor())
    if mode == "fake":
        from torch._subclasses import FakeTensorMode

        with FakeTensorMode(allow_non_fake_inputs=True):
            x.sum()
    elif mode == "vmap":
        assert torch.equal(torch.vmap(lambda a: a * x[0, 1])(torch.ones(3)), torch.ones(3))
    elif mode == "inference":
        with torch.inference_mode():
            x.sum()
        assert not x.is_inference()
    elif mode == "default device":
        with torch.device("meta"):
            x.sum()
    else:
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        x.sum()
        torch.use_deterministic_algorithms(before)
    assert torch.equal(x, _tensor())


def test_threads_that_race_for_it_all_see_it() -> None:
    for _ in range(20):
        x = _spilled(_tensor())
        start = threading.Barrier(8)
        seen: list[float] = []

        def use(x: torch.Tensor = x, start: Any = start, seen: list[float] = seen) -> None:
            start.wait(10)
            seen.append(float(x.sum()))

        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert seen == [499500.0] * 8


def test_a_weak_reference_made_meanwhile_survives() -> None:
    x = _spilled(_tensor())
    watching = weakref.ref(x)
    x.sum()
    assert watching() is x
    assert torch.equal(x, _tensor())


def test_it_can_be_spilled_again_and_leaves_no_garbage() -> None:
    x = _tensor()
    gc.collect()
    gc.disable()
    try:
        for _ in range(5):
            _spilled(x)
            x.sum()
        assert weakref.getweakrefcount(x) == 0
        gone = weakref.ref(x)
        del x
        assert gone() is None
    finally:
        gc.enable()


def test_those_that_are_dropped_are_not_listed() -> None:
    x = _spilled(_tensor())
    assert [(one.name, one.size_bytes, one.where) for one in spilled()] == [("x", 4000, "disk")]
    del x
    assert spilled() == ()


def test_back_on_demand() -> None:
    x, y = _spilled(_tensor()), _spilled(_tensor())
    assert [one.size_bytes for one in restore([x])] == [4000]
    assert (type(x), is_handle(y)) == (torch.Tensor, True)
    assert restore(x) == ()
    assert len(restore()) == 1
    assert torch.equal(y, _tensor())


def test_a_queue_of_processes_gets_the_tensor() -> None:
    from multiprocessing.reduction import ForkingPickler

    x = torch.arange(6.0)
    made = pickle.loads(ForkingPickler.dumps(_spilled(x)))
    assert torch.equal(made, torch.arange(6.0))
    assert x.is_shared()


def _traced(x: torch.Tensor) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(lambda a: a * 2, (x,), check_trace=False)
