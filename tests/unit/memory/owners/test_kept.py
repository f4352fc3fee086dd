"""What a cell left behind, by name."""

from __future__ import annotations

import gc
import sys
import weakref
from typing import Any

import numpy as np
import torch
from torch import nn

from titan_nb.memory.owners import KeptFinder, Root

MIB = 1 << 20


def _finder() -> KeptFinder:
    return KeptFinder(30.0)


def _roots(namespace: dict[str, Any]) -> list[Root]:
    return [Root(name, value) for name, value in namespace.items()]


def _kept(finder: KeptFinder, namespace: dict[str, Any]) -> dict[str, int]:
    return {one.name: one.size_bytes for one in finder.end(_roots(namespace))}


def _tensor() -> torch.Tensor:
    return torch.zeros(1 << 18)


def test_only_what_is_new_is_kept_under_the_longest_common_name() -> None:
    model = nn.Module()
    model.encoder = nn.Linear(512, 512)
    space: dict[str, Any] = {"model": model, "x": _tensor(), "cache": {}}
    finder = _finder()
    finder.begin(_roots(space))
    assert _kept(finder, space) == {}
    space["cache"]["k"] = _tensor()
    model.decoder = nn.Linear(512, 512)
    space["y"] = space["x"][5:]
    space["both"] = [_tensor(), _tensor()]
    assert _kept(finder, space) == {
        "both": 2 * MIB,
        "model.decoder": MIB + 2048,
        "cache['k']": MIB,
    }
    assert _kept(finder, space) == {}


def test_a_new_tensor_at_the_address_of_an_old_one_is_new() -> None:
    space: dict[str, Any] = {"x": _tensor()}
    finder = _finder()
    finder.begin(_roots(space))
    for _ in range(20):
        address = space["x"].data_ptr(), space["x"].untyped_storage()._cdata
        del space["x"]
        space["x"] = _tensor()
        again = (space["x"].data_ptr(), space["x"].untyped_storage()._cdata) == address
        assert _kept(finder, space) == {"x": MIB}
        if again:
            break


def test_a_storage_is_known_while_its_python_object_comes_and_goes() -> None:
    space = {"x": _tensor()}
    finder = _finder()
    finder.begin(_roots(space))
    gc.collect()
    space["x"].untyped_storage()
    view = space["x"].view(2, -1)
    space = {"view": view}
    assert _kept(finder, space) == {}


def test_arrays_may_still_be_resized_and_bytes_are_known_again() -> None:
    space: dict[str, Any] = {"a": np.zeros(1 << 17), "data": bytes(MIB)}
    finder = _finder()
    finder.begin(_roots(space))
    assert _kept(finder, space) == {}
    assert weakref.getweakrefcount(space["a"]) == 0
    space["b"] = np.zeros(1 << 17)
    assert _kept(finder, space) == {"b": MIB}


def test_nothing_is_kept_alive() -> None:
    space = {"x": _tensor(), "a": np.zeros(1 << 17)}
    finder = _finder()
    finder.begin(_roots(space))
    counts = [sys.getrefcount(value) for value in space.values()]
    _kept(finder, space)
    assert [sys.getrefcount(value) for value in space.values()] == counts
    watched = [weakref.ref(value) for value in space.values()]
    space.clear()
    assert [reference() for reference in watched] == [None, None]


def test_names_that_were_not_seen_to_the_end_are_left_out() -> None:
    space: dict[str, Any] = {"x": _tensor(), "huge": [[torch.zeros(1)] for _ in range(50_000)]}
    finder = KeptFinder(seconds=0.0)
    finder.begin(_roots(space))
    finder._seconds = 60.0
    space["y"] = _tensor()
    kept = _kept(finder, space)
    assert kept["y"] == MIB
    assert "huge" not in kept


def test_without_another_beginning_the_end_of_the_last_cell_is_one() -> None:
    space = {"x": _tensor()}
    finder = _finder()
    finder.begin(_roots(space))
    assert _kept(finder, space) == {}
    space["y"] = _tensor()
    assert _kept(finder, space) == {"y": MIB}
    assert _kept(finder, space) == {}
