"""From a GPU to the host and back, on the fake one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from tests.fakes.accelerator import install
from titan_nb.memory.spill import spill, spilled, store
from titan_nb.memory.spill.policy import SpillPolicy

MIB = 1 << 20


@pytest.fixture
def gpu() -> Iterator[Any]:
    fakegpu = install(capacity_bytes=256 * MIB)
    yield fakegpu
    fakegpu.reset()


@pytest.mark.parametrize("disk", [False, True])
def test_the_memory_is_free_until_the_tensor_is_used(gpu: Any, disk: bool) -> None:
    before = gpu.memory_allocated()
    x = torch.randn(50 * MIB // 4, device="fakegpu")
    expected = x.cpu()
    done = spill(x, disk=disk, names=["x"])
    assert [(one.device, one.where) for one in done.moved] == [
        ("fakegpu:0", "disk" if disk else "host memory")
    ]
    assert gpu.memory_allocated() == before
    other = torch.empty(240 * MIB // 4, device="fakegpu")
    assert x.device == torch.device("fakegpu:0")
    # Twice: the handle stays valid, and nothing is lost.
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate 50"):
            x.sum()
        assert len(spilled()) == 1
    del other
    assert torch.equal(x.cpu(), expected)
    assert gpu.memory_allocated() == before + 50 * MIB
    assert len(spill(x).moved) == 1


def test_those_who_can_give_memory_back_are_asked_before_the_error(gpu: Any) -> None:
    from titan_nb.memory import reclaim

    x = torch.ones(50 * MIB // 4, device="fakegpu")
    spill(x)
    cache = [torch.empty(240 * MIB // 4, device="fakegpu")]
    asked = []

    def give(needed_bytes: int, device_key: str) -> int:
        asked.append((needed_bytes, device_key))
        cache.clear()
        return 240 * MIB

    unregister = reclaim.register_yielder(give)
    try:
        assert float(x.sum()) == 50 * MIB // 4
    finally:
        unregister()
    ((needed, key),) = asked
    assert needed == 50 * MIB
    assert key.startswith("gpu:")


def test_a_full_host_is_a_refusal(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_host_room_bytes", lambda: MIB)
    x = torch.ones(MIB // 4, device="fakegpu")
    assert spill(x).refused[0].reason == "the host has 1.0 MiB left"
    assert float(x.sum()) == MIB // 4


def test_training_on_the_gpu_goes_on_as_if_nothing_had_moved(gpu: Any) -> None:
    def trained(spilling: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        model = torch.nn.Linear(20, 1).to("fakegpu")
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.randn(8, 20).to("fakegpu")).square().mean().backward()
            optimizer.step()
            if spilling:
                assert len(spill(model, optimizer).moved) == 6
        return [one.cpu() for one in model.state_dict().values()]

    assert all(map(torch.equal, trained(False), trained(True)))


def test_the_policy_moves_only_when_the_gpu_is_short(gpu: Any) -> None:
    chosen = SpillPolicy(idle_cells=1, pressure=0.5)
    namespace = {"old": torch.ones(50 * MIB // 4, device="fakegpu")}
    assert [chosen.before_cell("", namespace, number) for number in range(3)] == [None] * 3
    namespace["new"] = torch.ones(100 * MIB // 4, device="fakegpu")
    done = chosen.before_cell("new", namespace, 3)
    assert done is not None
    assert [one.name for one in done.moved] == ["old"]
