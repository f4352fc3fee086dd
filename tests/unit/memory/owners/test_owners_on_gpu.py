"""What names do not explain, against the statistics of an allocator."""

from __future__ import annotations

import contextlib
import gc
import sys
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.fakes.accelerator import install
from titan_nb.memory.accelerator import Accelerator
from titan_nb.memory.owners import Owners, Root, owners
from titan_nb.memory.owners.reconcile import without_name

MIB = 1 << 20


@pytest.fixture
def fakegpu() -> Iterator[Any]:
    gc.collect()
    fakegpu = install(capacity_bytes=256 << 20)
    torch.zeros(1, device="fakegpu")
    yield fakegpu
    fakegpu.reset()


def _tensor(mib: float = 1.0) -> torch.Tensor:
    return torch.zeros(int(mib * MIB) // 4, device="fakegpu")


def _look(**namespace: Any) -> Owners:
    roots = [Root(name, value) for name, value in namespace.items()]
    return owners(namespace, roots=roots, seconds=60)


def _closure() -> Any:
    kept = _tensor()
    return lambda: kept


def _fails() -> None:
    attn = _tensor()
    raise ValueError(attn.shape)


def _generator() -> Iterator[int]:
    batch = _tensor()
    yield 1
    del batch


def test_at_least_95_percent_of_the_allocated_bytes_have_a_name(fakegpu: Any) -> None:
    model = nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 512)).to("fakegpu")
    opt = torch.optim.Adam(model.parameters())
    model(torch.ones(64, 512, device="fakegpu")).sum().backward()
    opt.step()
    loss = model(torch.ones(1024, 512, device="fakegpu")).exp().sum()
    x = _tensor(4)
    views = [x[start:] for start in range(10)]
    cache = {"k": [_tensor(), (_tensor(), {"deep": _tensor()})]}
    generator = _generator()
    next(generator)
    with contextlib.suppress(ValueError):
        _fails()
    error = None
    try:
        _fails()
    except ValueError as failure:
        error = failure.with_traceback(failure.__traceback__.tb_next)  # type: ignore[union-attr]
    out = _tensor()
    made = {
        "model": model, "opt": opt, "loss": loss, "x": x, "views": views,
        "cache": cache, "generator": generator, "f": _closure(),
    }  # fmt: skip
    roots = [Root(name, value) for name, value in made.items()]
    roots += [Root("Out[3]", out, "Out"), Root("_", out, "Out", "Out[3]")]
    roots.append(Root("failed cell 12", error, "failed cell"))
    del model, opt, loss, x, views, cache, generator, error
    found = owners({}, roots=roots, seconds=60)

    assert found.named_fraction is not None
    assert found.named_fraction >= 0.95
    sizes = {row.name: row.size_bytes for row in found.rows if row.device.startswith("gpu:")}
    assert sizes["x"] == 4 * MIB
    assert sizes["failed cell 12 -> _fails() -> attn"] == MIB
    assert sizes["closure of f: kept"] == MIB
    assert sizes["generator generator -> batch"] == MIB
    assert {"model[0].weight.grad", "opt.state[model[1].weight]['exp_avg']", "Out[3]"} <= sizes.keys()
    (total,) = [total for key, total in found.devices.items() if key.startswith("gpu:")]
    # The rows, those without a name among them, add up to what the allocator says.
    in_rows = sum(row.size_bytes for row in found.rows if row.device.startswith("gpu:"))
    assert in_rows == total.allocated_bytes == fakegpu.memory_allocated()


def test_what_no_variable_leads_to_is_found_from_behind(fakegpu: Any) -> None:
    module = types.ModuleType("elsewhere")
    module.CACHE = {"k": [_tensor(8)]}  # type: ignore[attr-defined]
    sys.modules["elsewhere"] = module
    kind = type("Config", (), {"table": _tensor(4), "__module__": "elsewhere.inside"})
    cycle: list[Any] = [_tensor(2)]
    cycle.append(cycle)
    held = [kind]
    del cycle, kind, module
    try:
        rows = {row.name: row for row in _look().rows}
    finally:
        del sys.modules["elsewhere"]
        held.clear()
    assert rows["elsewhere.CACHE['k'][0]"].size_bytes == 8 * MIB
    assert rows["elsewhere.CACHE['k'][0]"].frees_bytes == 8 * MIB
    assert rows["Config.table"].size_bytes == 4 * MIB
    assert rows["no Python name: reference cycle or C code"].size_bytes == 2 * MIB


def test_what_only_c_code_holds_is_a_row_without_a_name(fakegpu: Any, monkeypatch: Any) -> None:
    module = types.ModuleType("elsewhere")
    # Python's garbage collector does not see into arrays.
    module.box = np.array([None, None], dtype=object)  # type: ignore[attr-defined]
    module.box[0] = _tensor(3)
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    row = {row.name: row for row in _look(x=1).rows}["no Python name: reference cycle or C code"]
    assert (row.kind, row.size_bytes) == ("no name", 3 * MIB)

    def graph() -> Any:
        return (_tensor(4).requires_grad_() * 2).exp().sum()

    module.box[1] = graph()
    found = _look(x=1)
    gpu_rows = [row for row in found.rows if row.device.startswith("gpu:")]
    assert {row.kind for row in gpu_rows} == {"no name"}
    assert not [row for row in found.names if row.kind == "no name"]
    unnamed = sum(row.size_bytes for row in gpu_rows)
    assert 3 * MIB + 8 * MIB <= unnamed == fakegpu.memory_allocated()
    assert found.named_fraction == 0


def test_a_device_that_cannot_be_asked_is_no_fault(fakegpu: Any, monkeypatch: Any) -> None:
    def broken(*_: Any) -> int:
        raise RuntimeError("device-side assert")

    x = _tensor(4)
    monkeypatch.setattr(Accelerator, "allocated_bytes", broken)
    found = _look(x=x)
    assert {row.name: row.size_bytes for row in found.rows}["x"] == 4 * MIB
    assert "could not be asked" in found.stopped_at


class _Snapshots:
    """torch's module of a GPU with a snapshot, as `torch.cuda` gives one."""

    def __init__(self, segments: Any, old: bool = False) -> None:
        self._segments = segments
        self._old = old

    def memory_snapshot(self, **options: Any) -> Any:
        if self._old and options:
            raise TypeError("unexpected keyword")
        if isinstance(self._segments, Exception):
            raise self._segments
        return self._segments


def _block(address: int, size: int, state: str = "active_allocated", **more: Any) -> dict[str, Any]:
    return {"address": address, "size": size, "requested_size": size, "state": state, **more}


SEGMENTS = [
    {
        "device": 0,
        "address": 1000,
        "segment_pool_id": (0, 0),
        "blocks": [
            _block(1000, 2048),
            _block(3048, 8_519_680),
            _block(9_000_000, 512, frames=[{"filename": "a.cpp"}, {"filename": "m.py", "line": 7}]),
            _block(9_100_000, 4096, "inactive"),
            _block(9_200_000, 1024),
        ],
    },
    {"device": 0, "segment_pool_id": (0, 1), "blocks": [_block(20_000_000, 3000)]},
    {"device": 1, "blocks": [_block(30_000_000, 9000)]},
]


@pytest.mark.parametrize("old", [False, True])
def test_what_a_snapshot_says_of_blocks_without_a_name(monkeypatch: Any, old: bool) -> None:
    monkeypatch.setattr(torch, "shot", _Snapshots(SEGMENTS, old), raising=False)
    allocated = 2048 + 8_519_680 + 512 + 1024 + 3000
    rest = without_name(Accelerator("shot", None), 0, {1000: 2000}, allocated)
    assert rest == {
        "rounding to whole blocks": 48,
        "as large as a cuBLAS workspace": 8_519_680,
        "allocated in m.py:7": 512,
        "": 1024,
        "private pool, as of a CUDA graph": 3000,
    }


@pytest.mark.parametrize("segments", [RuntimeError("no"), None, []])
def test_without_a_snapshot_the_rest_has_one_row(monkeypatch: Any, segments: Any) -> None:
    monkeypatch.setattr(torch, "shot", _Snapshots(segments), raising=False)
    assert without_name(Accelerator("shot", None), 0, {1: 10}, 100) == {"": 90}
    assert without_name(Accelerator("shot", None), 0, {1: 100}, 100) == {}
    assert without_name(Accelerator("other", None), 0, {}, 5) == {"": 5}
