"""Streams of random numbers: each can be looked at, and put back."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from titan_nb.memory import random_streams
from titan_nb.memory.random_streams import Stream, frozen, streams

OWN: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "random": (random, lambda _: random.random()),
    "numpy": (np.random, lambda _: np.random.standard_normal()),
    "torch": (torch, lambda _: torch.rand(3).tolist()),
    "a Random": (random.Random(1), lambda g: g.random()),
    "a RandomState": (np.random.RandomState(1), lambda g: g.standard_normal()),
    "a RandomState of another kind": (
        np.random.RandomState(np.random.PCG64(1)),
        lambda g: g.standard_normal(),
    ),
    "a Generator": (np.random.default_rng(1), lambda g: g.standard_normal()),
    "a Mersenne twister": (np.random.Generator(np.random.MT19937(1)), lambda g: g.standard_normal()),
    "a torch generator": (torch.Generator(), lambda g: torch.rand(3, generator=g).tolist()),
}


def found(name: str, value: Any) -> Stream:
    return next(stream for stream in streams([(name, value)]) if stream.name == name)


@pytest.mark.parametrize("name", OWN)
def test_each_draw_is_seen_and_taken_back(name: str) -> None:
    value, draw = OWN[name]
    stream = found(name, value)
    before = stream.read()
    seen = frozen(before)
    assert frozen(stream.read()) == seen, "looking draws nothing"
    first = draw(value)
    assert frozen(stream.read()) != seen
    stream.write(before)
    assert frozen(stream.read()) == seen
    assert draw(value) == first


def test_a_generator_with_two_names_is_one_stream() -> None:
    generator = random.Random(1)
    names = [stream.name for stream in streams([("a", generator), ("b", generator)])]
    assert names[-1] == "a"
    assert "b" not in names


def test_what_is_no_generator_is_none() -> None:
    class Mine(random.Random):
        def getstate(self) -> Any:
            pytest.fail("user code was run")

    plain = [stream.name for stream in streams([])]
    others = [("a", Mine()), ("b", 5), ("c", random.SystemRandom())]
    assert [stream.name for stream in streams(others)] == plain


def test_libraries_that_are_not_loaded_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delitem(sys.modules, "numpy.random")
    assert [stream.name for stream in streams([("x", 5)])] == ["random"]
    assert frozen(random.getstate()) == frozen(random.getstate())


class TestAccelerators:
    def test_each_device_has_its_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        states = {0: "first", 1: "second"}
        module = SimpleNamespace(
            get_rng_state=states.__getitem__,
            set_rng_state=lambda state, index: states.__setitem__(index, state),
        )
        monkeypatch.setattr(torch, "someday", module, raising=False)
        there = SimpleNamespace(kind="someday", keys=lambda: {0: "gpu:a", 1: "gpu:b"})
        monkeypatch.setattr(random_streams, "accelerator", lambda: there)
        second = found("torch on someday:1", None)
        assert second.read() == "second"
        second.write("other")
        assert states == {0: "first", 1: "other"}

    def test_mps_has_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "mps", SimpleNamespace(get_rng_state=lambda: 7, set_rng_state=print))
        monkeypatch.setattr(random_streams, "accelerator", lambda: SimpleNamespace(kind="mps"))
        assert found("torch on mps", None).read() == 7

    def test_one_that_tells_nothing_has_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "someday", SimpleNamespace(), raising=False)
        monkeypatch.setattr(random_streams, "accelerator", lambda: SimpleNamespace(kind="someday"))
        assert not [stream for stream in streams([]) if "someday" in stream.name]
