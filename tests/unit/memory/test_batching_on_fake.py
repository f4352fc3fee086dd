"""Batches on a device whose memory really runs out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.fakes.accelerator import install
from titan_nb.errors import ResourceError
from titan_nb.memory.batching import fit_batch
from titan_nb.memory.chunks import chunks

MIB = 2**20


@pytest.fixture
def gpu() -> Iterator[Any]:
    fakegpu = install(capacity_bytes=256 * MIB)
    torch.empty(1, device="fakegpu")
    yield fakegpu
    fakegpu.reset()


def rows(count: int) -> torch.Tensor:
    """Return tensors of 1 MiB each."""
    return torch.empty(count, MIB // 4, device="fakegpu")


def test_a_batch_that_does_not_fit_is_halved_and_leaves_nothing_behind(gpu: Any) -> None:
    seen: list[tuple[int, int, int]] = []

    def train(batch_size: int) -> int:
        seen.append((batch_size, gpu.memory_allocated(), gpu.memory_reserved()))
        held = [rows(batch_size)]
        held.append(held)  # type: ignore[arg-type]
        held.append(rows(batch_size))
        return batch_size

    before = gpu.memory_allocated()
    reserved = gpu.memory_reserved()
    found = fit_batch(train, start=500)
    assert (found.batch_size, found.failed_sizes) == (125, (500, 250))
    assert [size for size, _, _ in seen] == [500, 250, 125]
    assert all(allocated == before for _, allocated, _ in seen), "to the byte"
    assert all(there <= reserved for _, _, there in seen), "the cache is empty at each new attempt"


def test_a_training_step_that_runs_out_in_its_middle(gpu: Any) -> None:
    model = torch.nn.Linear(MIB // 4, 1, bias=False, device="fakegpu")
    optimizer = torch.optim.Adam(model.parameters())

    def train(batch_size: int) -> float:
        drawn.append(torch.rand(1, device="fakegpu").item())
        model(rows(1)).sum().backward()
        optimizer.step()
        return model(rows(batch_size).zero_()).sum().item()

    drawn: list[float] = []
    found = fit_batch(train, start=400)
    assert found.batch_size == 200
    assert "batch size 400: Adam.step() done once" in found.side_effects
    assert "batch size 400: model: at least 1 tensor changed in place" in found.side_effects
    assert "batch size 400: random numbers drawn: torch on fakegpu:0" in found.side_effects
    assert drawn[0] != drawn[1]
    drawn.clear()
    again = fit_batch(train, start=400, restore_rng=True, remember=False)
    assert drawn[0] == drawn[1]
    assert not [text for text in again.side_effects if "random" in text]


def test_a_minimum_that_does_not_fit(gpu: Any) -> None:
    kept = rows(1)
    before = gpu.memory_allocated()

    def train(batch_size: int) -> None:
        held = [rows(100)]
        held.append(rows(200 * batch_size))

    with pytest.raises(ResourceError) as raised:
        fit_batch(train, start=2)
    assert raised.value.device == "fakegpu:0"
    assert raised.value.requested_bytes == 200 * MIB
    assert raised.value.available_bytes is not None
    assert 250 * MIB < raised.value.available_bytes < 256 * MIB, "what the failed attempt held is back"
    assert gpu.memory_allocated() == before >= kept.nbytes, "while the error is held"


def test_chunks_are_halved_until_their_work_fits(gpu: Any) -> None:
    data = torch.arange(600.0)
    sizes: list[int] = []

    def embed(part: torch.Tensor) -> torch.Tensor:
        sizes.append(len(part))
        work = rows(len(part))
        return (part.to("fakegpu") + work[:, 0].zero_()).cpu()

    assert torch.equal(torch.cat(chunks(data).map(embed)), data)
    assert sizes == [600, 300, 150, 150, 150, 150]
