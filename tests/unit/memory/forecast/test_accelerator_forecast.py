"""Forecasts on an accelerator with an allocator of its own, whose peak is the truth to compare with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from tests.fakes.accelerator import install
from titan_nb.memory.forecast import forecast

STEP = """
for _ in range(2):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
"""
DEVICE = "fakegpu:0"


@pytest.fixture
def fakegpu() -> Iterator[Any]:
    module = install(capacity_bytes=256 << 20)
    # From here on torch's own backward pass cannot run in a forked child.
    torch.ones(1, device="fakegpu", requires_grad=True).neg().sum().backward()
    yield module
    module.reset()


# Adam's own temporary memory is the peak; with SGD and fused kernels, it is in the backward pass.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "fused": functools.partial(torch.optim.AdamW, fused=True),
    "sgd": functools.partial(torch.optim.SGD, lr=0.1),
}


def _training(model: nn.Module, x: torch.Tensor, optimizer_name: str) -> dict[str, Any]:
    model.to("fakegpu")
    y = torch.randint(0, 10, (len(x),), device="fakegpu")
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    return {"torch": torch, "nn": nn, "model": model, "x": x.to("fakegpu"), "y": y, "optimizer": optimizer}


def _mlp(optimizer: str) -> dict[str, Any]:
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return _training(model, torch.randn(64, 256), optimizer)


def _transformer(optimizer: str) -> dict[str, Any]:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    model = nn.Sequential(nn.TransformerEncoder(layer, 2), nn.Flatten(), nn.Linear(32 * 64, 10))
    return _training(model, torch.randn(8, 32, 64), optimizer)


@pytest.mark.parametrize("make", [_mlp, _transformer])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("steps_before", [0, 1])
def test_a_training_step_takes_what_was_predicted(
    fakegpu: Any, make: Any, optimizer: str, steps_before: int
) -> None:
    namespace = make(optimizer)
    for _ in range(steps_before):
        exec(STEP, namespace)
    before = fakegpu.memory_allocated()
    found = forecast(STEP, namespace)
    assert found.complete, found.describe()
    assert found.resident_bytes[DEVICE] == before == fakegpu.memory_allocated()
    fakegpu.reset_peak_memory_stats()
    exec(STEP, namespace)
    assert found.peak_bytes[DEVICE] == pytest.approx(fakegpu.max_memory_allocated(), rel=0.02)


def test_the_child_sees_the_gpu_and_never_uses_it(fakegpu: Any) -> None:
    source = (
        "device = 'fakegpu' if torch.fakegpu.is_available() else 'cpu'\n"
        "assert torch.fakegpu.device_count() == 1\n"
        "x = torch.ones(1000, device=device)\n"
        "y = torch.ones(1000).to(device)\n"
        "torch.fakegpu.synchronize(); torch.fakegpu.empty_cache()\n"
        "z = y.cpu()\n"
    )
    found = forecast(source, {"torch": torch})
    assert found.complete, found.describe()
    assert found.additional_bytes[DEVICE] == 2 * 4096, "in blocks of 512 bytes"


def test_values_on_the_gpu_are_not_known(fakegpu: Any) -> None:
    namespace = {"torch": torch, "labels": torch.arange(5, device="fakegpu")}
    found = forecast("classes = int(labels.max()) + 1", namespace)
    assert (found.stopped_line, found.reason) == (1, "data-dependent: .item() or a condition")


@pytest.mark.parametrize(
    "made",
    [
        "model = nn.Linear(500, 400, device='fakegpu')",
        "model = nn.Linear(500, 400).to('fakegpu')",
        "model = nn.Linear(500, 400).double().to('fakegpu').float()",
    ],
)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "AdamW"])
def test_a_model_that_the_cell_makes_takes_what_was_predicted(
    fakegpu: Any, made: str, optimizer: str
) -> None:
    source = f"""{made}
optimizer = torch.optim.{optimizer}(model.parameters())
for _ in range(2):
    model(torch.ones(16, 500, device='fakegpu')).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
"""
    namespace: dict[str, Any] = {"torch": torch, "nn": nn}
    found = forecast(source, namespace)
    assert found.complete, found.describe()
    fakegpu.reset_peak_memory_stats()
    exec(source, namespace)
    assert found.peak_bytes[DEVICE] == pytest.approx(fakegpu.max_memory_allocated(), rel=0.02)
