"""Objects that lie, raise or never end."""

from __future__ import annotations

import gc
import sys
import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

from titan_nb.memory.owners import KeptFinder, Owners, Root, owners

MIB = 1 << 20


def _look(seconds: float = 30.0, **namespace: Any) -> Owners:
    return owners(namespace, roots=[Root(name, value) for name, value in namespace.items()], seconds=seconds)


def _sizes(found: Owners) -> dict[str, int]:
    return {row.name: row.size_bytes for row in found.rows}


CALLS: list[str] = []


def _liar(name: str) -> Any:
    def lie(*_: Any, **__: Any) -> Any:
        CALLS.append(name)
        raise RuntimeError(f"{name} was called")

    return lie


SPECIAL = (
    *("__eq__", "__hash__", "__len__", "__repr__", "__str__", "__bool__", "__iter__", "__getitem__"),
    *(
        "__getattr__",
        "__getattribute__",
        "__contains__",
        "__instancecheck__",
        "__subclasscheck__",
        "__sizeof__",
    ),
)


class LyingMeta(type):
    __mro__ = property(_liar("meta __mro__"))  # type: ignore[assignment]
    __dict__ = property(_liar("meta __dict__"))  # type: ignore[assignment]
    __name__ = property(_liar("meta __name__"))  # type: ignore[assignment]
    __eq__ = _liar("meta __eq__")
    __hash__ = _liar("meta __hash__")  # type: ignore[assignment]
    __getattribute__ = _liar("meta __getattribute__")


def _lying(base: type, meta: type = type) -> Any:
    space: dict[str, Any] = {name: _liar(name) for name in SPECIAL}
    space["__class__"] = property(_liar("__class__"))
    return meta.__new__(meta, "Lying", (base,), space)


@pytest.mark.parametrize(
    "base", [object, list, dict, tuple, set, OrderedDict, Exception], ids=lambda b: b.__name__
)
@pytest.mark.parametrize("meta", [type, LyingMeta], ids=lambda m: type.__dict__["__name__"].__get__(m))
def test_no_code_of_an_object_or_its_class_is_called(base: type, meta: type) -> None:
    thing = type.__call__(_lying(base, meta))
    x = torch.zeros(1 << 18)
    dictionary = next(
        vars_["__dict__"]
        for cls in type.__dict__["__mro__"].__get__(type(thing))
        if "__dict__" in (vars_ := type.__dict__["__dict__"].__get__(cls))
    )
    dictionary.__get__(thing)["kept"] = x
    del x
    CALLS.clear()
    found = _look(liar=thing, box=[thing] * 40, key={1: thing})
    assert CALLS == []
    assert _sizes(found)["liar.kept"] == MIB


class _NamedKey(metaclass=LyingMeta):
    __hash__ = object.__hash__
    __eq__ = object.__eq__


def test_the_class_of_a_key_is_not_asked() -> None:
    key = type.__call__(_NamedKey)
    box = {key: torch.zeros(1 << 18)}
    CALLS.clear()
    assert _sizes(_look(box=box))["box[_NamedKey]"] == MIB
    assert CALLS == []


def test_a_key_of_a_modules_attributes_is_not_asked() -> None:
    class Text(str):
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> Any:
            CALLS.append("__eq__")
            return NotImplemented

    module = torch.nn.Module()
    vars(module)[Text("kept")] = torch.zeros(1 << 18)
    CALLS.clear()
    assert MIB in _sizes(_look(module=module)).values()
    assert CALLS == []


def test_the_class_of_an_array_is_not_asked_when_a_cell_has_ended() -> None:
    class Meta(type):
        def __getattribute__(cls, name: str) -> Any:
            CALLS.append(name)  # and no more: NumPy itself asks when it makes one
            return type.__getattribute__(cls, name)

    mine = Meta("Mine", (np.ndarray,), {})
    space: dict[str, Any] = {}
    finder = KeptFinder(30.0)
    finder.begin([])
    space["mine"] = np.ndarray.__new__(mine, (1 << 17,))
    CALLS.clear()
    for expected in ([MIB], []):
        kept = finder.end([Root(name, value) for name, value in space.items()])
        assert [one.size_bytes for one in kept] == expected
    assert CALLS == []


def test_a_thread_with_a_name_of_its_own_is_not_asked() -> None:
    class Lying(threading.Thread):
        ident = property(_liar("ident"))  # type: ignore[assignment]
        name = property(_liar("name"))  # type: ignore[assignment]

    stop = threading.Event()
    thread = Lying.__new__(Lying)
    threading.Thread.__dict__["__init__"](
        thread, target=lambda held: stop.wait(30), args=(torch.zeros(1 << 18),)
    )
    thread.start()
    try:
        CALLS.clear()
        found = owners({}, seconds=30.0)
        assert CALLS == []
        assert MIB in _sizes(found).values()
    finally:
        stop.set()
        threading.Thread.join(thread)


class _Subclass(torch.Tensor):
    @classmethod
    def __torch_function__(cls, function: Any, *_: Any, **__: Any) -> Any:
        CALLS.append(str(function))
        raise RuntimeError

    @property
    def grad(self) -> Any:  # type: ignore[override]
        CALLS.append("grad")
        raise RuntimeError


class _Wrapper(torch.Tensor):
    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    @classmethod
    def __torch_dispatch__(cls, function: Any, *_: Any, **__: Any) -> Any:
        CALLS.append(str(function))
        raise RuntimeError


def test_subclasses_of_tensors_are_not_asked() -> None:
    with torch._C.DisableTorchFunctionSubclass():
        mine = torch.zeros(1 << 18).as_subclass(_Subclass)
    wrapped = _Wrapper(torch.zeros(1 << 18))
    CALLS.clear()
    sizes = _sizes(_look(mine=mine, wrapped=wrapped))
    assert CALLS == []
    assert sizes == {"mine": MIB, "wrapped.inner": MIB} | {k: v for k, v in sizes.items() if "thread" in k}


def test_tensors_without_memory_of_their_own_count_nothing() -> None:
    from torch._subclasses import FakeTensorMode

    with FakeTensorMode():
        fake = torch.zeros(1 << 18)
    empty = torch.zeros(1 << 18)
    empty.untyped_storage().resize_(0)
    found = _look(fake=fake, meta=torch.zeros(1 << 18, device="meta"), empty=empty)
    assert not [row for row in found.rows if row.size_bytes > 1000]


@pytest.mark.filterwarnings("ignore:.*(Sparse|nested)")
def test_kinds_of_tensors() -> None:
    values = torch.zeros(1 << 18)
    rows = _sizes(
        _look(
            csr=torch.sparse_csr_tensor(
                torch.tensor([0, 1 << 18]), torch.arange(1 << 18), values, (1, 1 << 18)
            ),
            nested=torch.nested.nested_tensor([torch.zeros(1 << 17), torch.zeros(1 << 17)]),
        )
    )
    assert rows["csr.values()"] == MIB
    assert rows["csr.col_indices()"] == 2 * MIB
    assert rows["nested"] == MIB


@pytest.mark.filterwarnings("ignore:.*quantize")
def test_quantised_tensors() -> None:
    rows = _sizes(_look(q=torch.quantize_per_tensor(torch.zeros(1 << 18), 0.1, 0, torch.qint8)))
    assert rows["q"] == 1 << 18


def test_tensors_that_functorch_wraps_are_unknown_and_no_fault() -> None:
    seen: list[Owners] = []

    def inside(x: torch.Tensor) -> torch.Tensor:
        seen.append(_look(x=x))
        return x

    torch.func.vmap(inside)(torch.zeros(4, 4))
    assert isinstance(seen[0], Owners)


def test_a_million_nested_lists_that_refer_back_end_in_time() -> None:
    box: list[Any] = []
    box.extend([box, number] for number in range(10**6))
    x = torch.zeros(1 << 18)
    try:
        found = _look(seconds=0.05, box=box, x=x)
        assert _sizes(found)["x"] == MIB
        assert "not to the end of box" in found.stopped_at
        assert "stopped after 50 ms" in found.stopped_at
    finally:
        box.clear()


def test_a_huge_dictionary_is_looked_through_to_the_end() -> None:
    box: dict[Any, Any] = {str(number): number for number in range(200_000)}
    box["last"] = {"x": torch.zeros(1 << 18)}
    found = _look(box=box, ints=list(range(200_000)), sets=set(range(200_000)), many=[[1]] * 100_000)
    assert found.stopped_at == ""
    assert _sizes(found)["box['last']['x']"] == MIB


def test_a_long_chain_is_named_in_short() -> None:
    chain: Any = torch.zeros(1 << 18)
    for _ in range(5000):
        chain = [chain]
    (name,) = [
        name for name, size in _sizes(_look(chain=chain)).items() if size == MIB and "thread" not in name
    ]
    assert name.startswith("chain ...")
    assert len(name) < 100


def test_many_small_blocks_are_added_up() -> None:
    box = [torch.zeros(4) for _ in range(1500)]
    found = _look(box=box)
    assert next(row for row in found.rows if "smaller" in row.name).name == "box (500 smaller)"
    assert sum(row.size_bytes for row in found.rows if row.name.startswith("box")) == 1500 * 16


def test_many_owners_are_counted() -> None:
    x = torch.zeros(1 << 18)
    found = _look(x=x, **{f"other{number}": [x] for number in range(9)})
    row = next(row for row in found.rows if row.size_bytes == MIB)
    assert len(row.shared_with) == 6
    assert row.shared_with[-1].endswith(" more")


def test_a_closed_mapping_holds_nothing() -> None:
    import mmap

    closed = mmap.mmap(-1, MIB)
    closed.close()
    assert "closed" not in _sizes(_look(closed=closed))


def test_an_interrupt_leaves_nothing_behind(monkeypatch: Any) -> None:
    from titan_nb.memory.owners import search

    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    x = torch.zeros(10)
    before = sys.getrefcount(x)
    monkeypatch.setattr(search, "answer", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        _look(x=x)
    assert gc.isenabled()
    del caught
    assert sys.getrefcount(x) <= before + 1  # the frame of this very call


def test_without_torch_and_numpy_text_is_still_found(monkeypatch: Any) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delitem(sys.modules, "numpy")
    assert _sizes(_look(text="t" * MIB))["text"] >= MIB
