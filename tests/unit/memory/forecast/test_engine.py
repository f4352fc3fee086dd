"""The backward pass in Python: the same gradients and the same count as torch's own."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from titan_nb.memory.forecast.engine import Engine
from titan_nb.memory.forecast.fake import counting_mode
from titan_nb.memory.forecast.storages import Storages


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, factor: float, other: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.factor = factor
        return x**3 * factor

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad * ctx.factor, None, None


def network(x: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(1)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    return nn.Sequential(layer, nn.LayerNorm(8), nn.Linear(8, 3))(x[None])


CASES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "network": network,
    "broadcast": lambda x: x * x[0] + x.sum(0),
    "shared": lambda x: x.sigmoid() * x + x + x.t().t(),
    "function of the user's": lambda x: Cube.apply(x, 2.0, torch.ones(1)) + x,
    "another type": lambda x: x.double() * 2 + x,
    "views": lambda x: torch.cat([x[1:], x[:1]]).view(-1)[::2],
    "several outputs": lambda x: torch.stack([part * 2 for part in x.unbind(0)[1:]]),
    "checkpoint": lambda x: checkpoint(lambda y: y.exp() * y, x, use_reentrant=False),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_the_same(case: str) -> None:
    found = []
    for engine in (contextlib.nullcontext(), Engine()):
        torch.manual_seed(0)
        x = torch.randn(6, 8, requires_grad=True)
        with engine:
            CASES[case](x).pow(2).sum().backward()
            CASES[case](x).pow(2).sum().backward()
        assert x.grad is not None
        found.append(x.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("case", sorted({*CASES} - {"another type", "network"}))
def test_the_count_is_that_of_the_real_allocator(case: str) -> None:
    """Torch's own engine under a fake mode counts up to half more: it adds no gradient in place there.

    Left out: a network made of too little to be measured, and an addition whose kernel needs memory.
    """
    storages = Storages()
    x = torch.randn(256, 256, requires_grad=True)
    with counting_mode(storages), Engine():
        CASES[case](x).sum().backward()
    x = torch.randn(256, 256, requires_grad=True)
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
        CASES[case](x).sum().backward()
    events = [one for one in profile.profiler.kineto_results.events() if one.name() == "[memory]"]
    sizes = [one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]
    assert storages.peak_bytes["cpu"] == pytest.approx(max(itertools.accumulate(sizes)), rel=0.02)


def test_gradients_of_gradients() -> None:
    x = torch.arange(1.0, 4.0, requires_grad=True)
    with Engine():
        (first,) = torch.autograd.grad((x**3).sum(), [x], create_graph=True)
        first.sum().backward(retain_graph=True)
        first.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [12.0, 24.0, 36.0]


def test_only_what_was_asked_for() -> None:
    x, y = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    with Engine():
        loss = (x * y * 2).sum()
        middle = x * 3
        assert torch.autograd.grad(loss, [x], retain_graph=True)[0].tolist() == [2.0, 2.0]
        loss.backward(inputs=[y], retain_graph=True)
        assert torch.autograd.grad((middle * 2).sum(), [middle, y], allow_unused=True)[1] is None
    assert x.grad is None
    assert y.grad is not None


def test_a_leaf_of_its_own_and_its_hook() -> None:
    x = torch.ones(3, requires_grad=True)
    seen: list[object] = []
    x.register_post_accumulate_grad_hook(seen.append)
    with Engine():
        torch.autograd.backward([x], [torch.ones(3)])
        torch.autograd.backward([x], [torch.ones(3)], create_graph=True)
    assert x.grad is not None
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
    assert len(seen) == 2
    x.grad = None


def test_what_cannot_be_derived_is_said_as_torch_says_it() -> None:
    with Engine() as engine, pytest.raises(RuntimeError, match="does not require grad"):
        torch.ones(1).backward()
    assert engine.is_checkpoint_valid()


def test_a_sparse_gradient() -> None:
    storages = Storages()
    table = torch.nn.Embedding(1000, 64, sparse=True)
    with counting_mode(storages), Engine():
        table(torch.arange(10)).sum().backward()
    assert table.weight.grad is not None
    assert table.weight.grad.is_sparse
    assert storages.peak_bytes["cpu"] < 64_000, "no dense gradient of 256,000 bytes"


def test_saved_tensors_are_given_free_on_the_way() -> None:
    with Engine():
        x = torch.ones(3, requires_grad=True)
        loss = (x.exp() * x).sum()
        loss.backward(retain_graph=True)
        loss.backward()
        with pytest.raises(RuntimeError, match="a second time"):
            loss.backward()
