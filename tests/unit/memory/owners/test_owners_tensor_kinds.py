"""Tensors of every kind: which name holds them, what a cell left behind in them, and that none is asked."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch

from tests.fakes.accelerator import install, uninstall
from titan_nb.memory.owners import KeptFinder, Owners, Root, owners
from titan_nb.memory.owners.answer import holder_of
from titan_nb.memory.owners.names import Names
from titan_nb.memory.owners.walk import Walk
from titan_nb.memory.spill import spill

MIB = 1 << 20


def _look(**namespace: Any) -> Owners:
    return owners(namespace, roots=[Root(name, value) for name, value in namespace.items()], seconds=30.0)


def _sizes(found: Owners) -> dict[str, int]:
    return {row.name: row.size_bytes for row in found.rows}


def test_hooks_of_tensors_are_named_and_not_run() -> None:
    calls: list[str] = []

    def hook(*_: Any, held: torch.Tensor) -> None:
        calls.append("hook")

    early, late = (torch.zeros(1 << 18, requires_grad=True) for _ in range(2))
    early.register_hook(partial(hook, held=torch.zeros(1 << 18)))
    late.register_post_accumulate_grad_hook(partial(hook, held=torch.zeros(1 << 18)))
    result = (early * late).sum()
    found = _look(early=early, late=late, result=result)
    assert calls == []
    owned: Counter[str] = Counter()
    for row in found.names:
        owned[row.name] += row.size_bytes
    assert (owned["early"], owned["late"]) == (2 * MIB, 2 * MIB)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Any]:
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def test_a_distributed_tensor_holds_its_own_shard(mesh: Any) -> None:
    from torch.distributed.tensor import Shard, distribute_tensor

    shard = distribute_tensor(torch.zeros(1 << 18), mesh, [Shard(0)])
    assert _sizes(_look(shard=shard))["shard._local_tensor"] == MIB
    (refused,) = spill(shard, disk=True).refused
    assert "DTensor, a class of its own" in refused.reason


@pytest.mark.filterwarnings("ignore:.*(Sparse|quantize)")
def test_what_a_cell_left_behind_in_tensors_of_every_kind(mesh: Any) -> None:
    from torch._subclasses import FakeTensorMode
    from torch.distributed.tensor import Shard, distribute_tensor

    space: dict[str, Any] = {}

    def kept() -> dict[str, int]:
        found = finder.end([Root(name, value) for name, value in space.items()])
        return {one.name: one.size_bytes for one in found}

    finder = KeptFinder(30.0)
    finder.begin([])
    with FakeTensorMode():
        space["fake"] = torch.zeros(1 << 18)
    space["meta"] = torch.zeros(1 << 18, device="meta")
    space["subclass"] = torch.zeros(1 << 18).as_subclass(type("Mine", (torch.Tensor,), {}))
    space["quantised"] = torch.quantize_per_tensor(torch.zeros(1 << 18), 0.1, 0, torch.qint8)
    space["coo"] = torch.sparse_coo_tensor(torch.arange(1 << 17)[None], torch.zeros(1 << 17), (1 << 17,))
    space["csr"] = torch.zeros(1, 1 << 17).index_fill(1, torch.arange(1 << 17), 1.0).to_sparse_csr()
    space["shard"] = distribute_tensor(torch.zeros(1 << 18), mesh, [Shard(0)])
    hooked = space["hooked"] = torch.zeros(1 << 18, requires_grad=True)
    hooked.register_hook(partial(lambda gradient, held: None, held=torch.zeros(1 << 18)))
    left = kept()
    assert left.keys() == {"subclass", "quantised", "coo", "csr", "shard", "hooked"}
    assert left["quantised"] == MIB // 4
    assert left["coo"] == 3 * MIB // 2
    assert left["csr"] >= 3 * MIB // 2
    assert left["hooked"] == 2 * MIB
    assert MIB <= left["shard"] <= MIB + 64
    assert left["subclass"] == MIB
    assert kept() == {}


@pytest.fixture
def fakegpu() -> Iterator[Any]:
    yield install(256 << 20)
    uninstall()


def test_a_tensor_that_another_library_showed_again_counts_once(fakegpu: Any) -> None:
    x = torch.zeros(1 << 18, device="fakegpu")
    again = torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(x))
    neighbour = torch.zeros(1 << 18, device="fakegpu")
    assert again.data_ptr() == x.data_ptr()
    found = _look(x=x, again=again, neighbour=neighbour)
    (total,) = [total for key, total in found.devices.items() if key.startswith("gpu:")]
    assert total.named_bytes == total.allocated_bytes == 2 * MIB
    shared = {row.name: row.shared_with for row in found.names if row.device.startswith("gpu:")}
    assert "again" in shared["x"]
    assert "x" in shared["again"]
    assert not {"x", "again"} & set(shared["neighbour"])


def test_the_answer_is_shown_in_one_short_line() -> None:
    found = owners({"x": torch.ones(1 << 18), "y": torch.ones(1 << 18)})
    assert repr(found).startswith("<Owners: ")
    assert len(repr(found)) < 300


def test_the_place_in_a_huge_container_is_looked_for_only_while_there_is_time() -> None:
    huge: list[Any] = [[number] for number in range(30_000)]
    huge[-1].append(torch.ones(1 << 18))
    walk = Walk(())
    walk.add_root(Root("huge", huge, "variable"))
    assert walk.run(math.inf)
    (block,) = walk.storages.blocks()
    assert Names(walk).of(holder_of(block))[0] == "huge[29999][1]"
    assert Names(walk, until=0.0).of(holder_of(block))[0] == "huge[...][1]"
    walk.close()
