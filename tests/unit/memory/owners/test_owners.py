"""Names, sizes, and what deletion frees."""

from __future__ import annotations

import array
import gc
import json
import mmap
import sys
import threading
import weakref
from collections import deque
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from titan_nb.memory.owners import Owners, Root, Row, owners

MIB = 1 << 20


def _tensor(mib: float = 1.0) -> torch.Tensor:
    return torch.zeros(int(mib * MIB) // 4)


def _look(seconds: float = 30.0, **namespace: Any) -> Owners:
    return owners(namespace, roots=[Root(name, value) for name, value in namespace.items()], seconds=seconds)


def _rows(found: Owners) -> dict[str, Row]:
    return {row.name: row for row in found.rows if row.size_bytes >= 1 << 16}


class Holder:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("kept",)

    def __init__(self, kept: Any) -> None:
        self.kept = kept


class Pair(NamedTuple):
    left: Any
    right: Any


def _closure() -> Any:
    kept = _tensor()
    return lambda: kept


def _default(kept: torch.Tensor = torch.zeros(1 << 18), *, other: int = 3) -> None:  # noqa: B008
    del kept, other


def _generator() -> Iterator[int]:
    buffer = _tensor()
    yield 1
    del buffer


def _started() -> Iterator[int]:
    generator = _generator()
    next(generator)
    return generator


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(512, 512, bias=False))


NAMES = {
    "a variable": (_tensor, "x", "variable"),
    "in containers": (lambda: {"k": [0, _tensor()]}, "x['k'][1]", "variable"),
    "a tuple as key": (lambda: {("a", 1): _tensor()}, "x['a', 1]", "variable"),
    "an object as key": (lambda: {Slotted(0): _tensor()}, "x[Slotted]", "variable"),
    "a long key": (lambda: {"k" * 99: _tensor()}, f"x['{'k' * 36}...]", "variable"),
    "a set": (lambda: {_tensor()}, "x", "variable"),
    "a deque": (lambda: deque([_tensor()]), "x", "variable"),
    "an attribute": (lambda: Holder(deep=Holder(kept=_tensor())), "x.deep.kept", "variable"),
    "a slot": (lambda: Slotted(_tensor()), "x.kept", "variable"),
    "a named tuple": (lambda: Pair(1, _tensor()), "x[1]", "variable"),
    "a partial function": (lambda: partial(print, _tensor()), "x.args[0]", "variable"),
    "a bound method": (lambda: Holder(kept=_tensor()).__init__, "x.__self__.kept", "variable"),
    "a closure": (_closure, "closure of x: kept", "closure"),
    "a closure deeper": (lambda: [_closure()], "closure of x[0]: kept", "closure"),
    "a default": (lambda: _default, "default of x: kept", "closure"),
    "a generator": (_started, "generator x -> buffer", "generator"),
    "a module": (Encoder, "x.encoder[0].weight", "parameter"),
    "a module's attribute": (lambda: _with(nn.ReLU(), cache=_tensor()), "x.cache", "variable"),
    "a buffer": (lambda: nn.BatchNorm1d(1 << 18, affine=False, momentum=None), "x.running_mean", "variable"),
    "a storage": (lambda: _tensor().untyped_storage(), "x", "variable"),
    "an attribute of a tensor": (lambda: _with(torch.zeros(1), kept=_tensor()), "x.kept", "variable"),
    "a small view": (lambda: _tensor()[:10], "x", "view"),
    "sparse": (
        lambda: torch.zeros(1, 1 << 18).index_fill_(0, torch.tensor([0]), 1).to_sparse(1),
        "x.values()",
        "",
    ),
    "an array": (lambda: np.zeros(1 << 17), "x", "variable"),
    "a view of an array": (lambda: np.zeros(1 << 17)[5:], "x", "view"),
    "an array of objects": (lambda: np.array([None, _tensor()], dtype=object), "x", "variable"),
    "an array from bytes": (lambda: np.frombuffer(bytes(MIB)), "x", "variable"),
    "a tensor as an array": (lambda: _tensor().numpy(), "x", "variable"),
    "an array as a tensor": (lambda: torch.from_numpy(np.zeros(1 << 17)), "x", "variable"),
    "a masked array": (lambda: np.ma.masked_array(np.zeros(1 << 17)), "x", "variable"),
    "a table": (lambda: pd.DataFrame(np.zeros((1 << 14, 8))), "x", "variable"),
    "bytes": (lambda: bytes(MIB), "x", "variable"),
    "a byte array": (lambda: bytearray(MIB), "x", "variable"),
    "text": (lambda: "t" * MIB, "x", "variable"),
    "text in a large list": (lambda: ["t"] * 9999 + ["t" * MIB], "x[9999]", "variable"),
    "an array.array": (lambda: array.array("d", bytes(MIB)), "x", "variable"),
    "a memory view": (lambda: memoryview(bytearray(MIB)), "x", "variable"),
    "a mapping": (lambda: mmap.mmap(-1, MIB), "x", "mapped"),
    "a pair of a weird key": (lambda: {None: {b"b": _tensor()}}, "x[None][b'b']", "variable"),
}


def _with(thing: Any, **attributes: Any) -> Any:
    for name, value in attributes.items():
        setattr(thing, name, value)
    return thing


@pytest.mark.filterwarnings("ignore:Sparse")
@pytest.mark.parametrize("case", NAMES)
def test_a_name_is_what_the_user_would_write(case: str) -> None:
    make, name, kind = NAMES[case]
    found = _look(x=make())
    rows = [row for row in found.rows if row.size_bytes >= 1 << 18]
    assert rows[0].name == name, found.rows
    assert kind in ("", rows[0].kind)
    assert MIB // 2 <= rows[0].size_bytes <= MIB * 1.1
    assert rows[0].frees_bytes in (rows[0].size_bytes, 0)


def test_a_tensor_with_ten_views_counts_once() -> None:
    x = _tensor(4)
    found = _look(views=[x[i:] for i in range(10)], x=x)
    (row,) = [row for row in found.rows if row.size_bytes > MIB]
    assert (row.name, row.size_bytes, row.frees_bytes) == ("x", 4 * MIB, 0)
    assert "views" in row.shared_with
    assert sum(total.named_bytes for total in found.devices.values()) < 4 * MIB + 1000


def _trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    model = nn.Sequential(nn.Linear(512, 512), nn.ReLU())
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 512)).sum().backward()
    optimizer.step()
    return model, optimizer


def test_training_is_named_by_its_parts_and_its_whole() -> None:
    made = dict(zip(("model", "opt"), _trained(), strict=True))
    found = owners(made, roots=[Root("opt", made["opt"]), Root("model", made["model"])], seconds=30)
    rows = _rows(found)
    assert rows["model[0].weight"].kind == "parameter"
    assert rows["model[0].weight"].shared_with == ("opt",) or "opt" in rows["model[0].weight"].shared_with
    assert rows["model[0].weight.grad"].kind == "grad"
    assert rows["opt.state[model[0].weight]['exp_avg']"].kind == "optimizer state"
    names = {(row.name, row.kind): row for row in found.names}
    assert names["opt", "optimizer state"].size_bytes == 2 * (MIB + 2048) + 2 * 4
    assert names["model", "parameter"].size_bytes == MIB + 2048
    assert names["model", "parameter"].frees_bytes == 0


def test_what_autograd_keeps_is_named_after_the_loss() -> None:
    w = torch.ones(1 << 18, requires_grad=True)
    found = _look(loss=(w * 2).exp().sum(), w=w)
    graph = [row for row in found.rows if row.kind == "autograd"]
    assert {row.name for row in graph} == {"autograd graph of loss"}
    assert sum(row.size_bytes for row in graph) >= MIB


class _Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x * 2)
        ctx.kept = x * 3
        return x.sum()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad


def test_unpack_hooks_are_not_run_and_what_they_would_get_is_seen() -> None:
    calls: list[str] = []
    w = torch.ones(1 << 18, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: ("packed", t.clone()), lambda p: calls.append("unpacked") or p[1]
    ):
        y = w.exp().sum()
    found = _look(y=y, z=_Doubled.apply(w), w=w)
    assert calls == []
    names = [row.name for row in found.rows if row.size_bytes == MIB]
    assert names.count("autograd graph of y") + names.count("autograd graph of y[1]") == 1
    assert names.count("autograd graph of z") + names.count("autograd graph of z.kept") == 2


def test_a_graph_that_has_been_freed_is_no_fault() -> None:
    w = torch.ones(4, requires_grad=True)
    y = w.exp()
    y.sum().backward()
    assert _look(y=y).stopped_at == ""


def _fails(kept: torch.Tensor) -> None:
    attn = _tensor(2)
    raise ValueError(attn.shape, kept.shape)


def _caught(function: Any, *arguments: Any) -> BaseException:
    try:
        function(*arguments)
    except Exception as error:
        return error.with_traceback(error.__traceback__.tb_next)
    raise AssertionError


def test_the_frames_of_an_error_are_named_also_of_its_cause() -> None:
    def outer() -> None:
        try:
            _fails(_tensor(3))
        except ValueError as error:
            raise KeyError("outer") from error

    rows = _rows(_look(err=_caught(outer)))
    assert rows["err -> _fails() -> attn"].size_bytes == 2 * MIB
    assert "err -> _fails() -> kept" in rows


def test_names_of_one_group_own_together() -> None:
    x = _tensor()
    roots = [Root("Out[1]", x, "Out"), Root("_", [x], "Out", "Out[1]")]
    found = owners({}, roots=roots, seconds=30)
    row = next(row for row in found.rows if row.size_bytes == MIB)
    assert (row.name, row.kind) == ("Out[1]", "Out")
    assert "_" not in row.shared_with


def test_variables_of_running_functions_are_named_by_thread() -> None:
    ready, done = threading.Event(), threading.Event()

    def worker() -> None:
        buf = _tensor(5)
        ready.set()
        done.wait(60)
        del buf

    thread = threading.Thread(target=worker, name="Thread-loader")
    thread.start()
    try:
        assert ready.wait(60)
        rows = _rows(owners({}, seconds=30))
        assert rows["thread Thread-loader -> worker() -> buf"].size_bytes == 5 * MIB
    finally:
        done.set()
        thread.join(60)


def test_without_arguments_the_callers_own_variables_are_looked_at() -> None:
    mine = _tensor(7)
    rows = _rows(owners(seconds=30))
    assert rows["mine"].size_bytes == mine.nbytes
    assert rows["mine"].frees_bytes == 7 * MIB
    assert "thread" not in rows["mine"].shared_with


def test_what_a_users_module_and_class_hold_has_their_name(tmp_path: Any, monkeypatch: Any) -> None:
    (tmp_path / "my_tools.py").write_text("import torch\nCACHE = {'k': torch.zeros(1 << 18)}\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("my_tools")
    kind = type("Config", (), {"__module__": "__main__", "table": _tensor()})
    found = _rows(owners({"tools": module, "Config": kind, "np": np}, seconds=30))
    assert "tools.CACHE['k']" in found
    assert "Config.table" in found
    del sys.modules["my_tools"]


def test_lists_that_share_what_was_found_before_are_owners_too() -> None:
    model = nn.Sequential(*[nn.Linear(64, 64) for _ in range(50)])
    found = _look(model=model, layers=list(model))
    names = {(row.name, row.kind): row for row in found.names}
    assert names["layers", "parameter"].size_bytes == names["model", "parameter"].size_bytes
    assert names["model", "parameter"].frees_bytes == 0


def test_the_answer_is_plain_data_and_a_table() -> None:
    found = _look(x=_tensor())
    assert Owners(**{**json.loads(json.dumps(found.to_dict())), "devices": {}}).stopped_at == ""
    table = found.to_frame()
    assert list(table.columns) == ["name", "kind", "device", "size_bytes", "frees_bytes", "shared_with"]
    assert table["size_bytes"].sum() == sum(row.size_bytes for row in found.rows)
    assert _look().to_frame().columns[0] == "name"


def test_nothing_is_kept_and_no_use_count_changes() -> None:
    x = torch.ones(10, requires_grad=True)
    y = x * 2
    a = np.zeros(1 << 14)
    generator = _started()

    class Mine:
        pass

    one = Mine()
    one.kept = x  # type: ignore[attr-defined]

    def counts() -> list[int]:
        storage = torch._C._storage_Use_Count
        return [
            *(sys.getrefcount(thing) for thing in (x, y, a, one, generator)),
            *(storage(t.untyped_storage()._cdata) for t in (x, y)),
            *(t._use_count() for t in (x, y)),
        ]

    gc.collect()
    gc.disable()
    try:
        y.grad_fn  # noqa: B018 - the first reading makes a Python object for it
        before = counts()
        _look(x=x, y=y, a=a, one=one, generator=generator)
        assert counts() == before
    finally:
        gc.enable()
    assert next(generator, None) is None


def test_objects_and_classes_die_when_they_would_have_died() -> None:
    class Mine:
        pass

    one = Mine()
    watched = [weakref.ref(one), weakref.ref(Mine)]
    gc.collect()
    gc.disable()
    try:
        _look(one=one)
        del one
        assert watched[0]() is None
    finally:
        gc.enable()
    del Mine
    gc.collect()
    assert watched[1]() is None


def test_no_garbage_is_left_for_the_collector() -> None:
    from titan_nb.memory.owners.expand import Expander
    from titan_nb.memory.owners.walk import Walk

    gc.collect()
    gc.disable()
    try:
        _look(x=_tensor())
        assert [one for one in gc.get_objects() if type(one) in (Walk, Expander)] == []
    finally:
        gc.enable()


def test_variables_that_a_running_function_lets_go_of_are_gone() -> None:
    go, gone = threading.Event(), threading.Event()
    done, ready = threading.Event(), threading.Event()
    watched: list[Any] = []

    def worker() -> None:
        buf = np.zeros(1 << 14)
        watched.append(weakref.ref(buf))
        ready.set()
        go.wait(60)
        del buf
        gone.set()
        done.wait(60)

    thread = threading.Thread(target=worker)
    thread.start()
    try:
        assert ready.wait(60)
        owners({}, seconds=30)
        go.set()
        assert gone.wait(60)
        assert watched[0]() is None
    finally:
        go.set()
        done.set()
        thread.join(60)


def test_gc_is_as_it_was_and_frozen_objects_are_found() -> None:
    held = {"k": [_tensor()]}
    gc.collect()
    gc.freeze()
    try:
        assert _rows(_look(held=held))["held['k'][0]"].size_bytes == MIB
    finally:
        gc.unfreeze()
    assert gc.isenabled()
    gc.disable()
    try:
        _look(held=held)
        assert not gc.isenabled()
    finally:
        gc.enable()
