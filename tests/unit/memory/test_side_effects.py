"""Each thing that a call changes is said once; what it leaves alone is not; nothing is kept alive."""

from __future__ import annotations

import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from titan_nb.memory.callee import Callee
from titan_nb.memory.side_effects import Watch

SPACE: dict[str, Any] = {}


def seen(change: Callable[[], Any], *, restored: bool = False, **state: Any) -> list[str]:
    """Return what is seen of one call of ``change``."""
    watch = Watch(Callee(change, (), state))
    try:
        change()
        return watch.seen(restored=restored)
    finally:
        watch.close()


def in_module(body: str, **names: Any) -> tuple[Callable[[], None], dict[str, Any]]:
    """Return a function of a module of its own, which `names` are in."""
    space = dict(names)
    exec(f"def change():\n    {body}", space)
    return space["change"], space


def model_and_optimizer() -> tuple[Any, Any]:
    model = torch.nn.Linear(3, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def test_nothing_is_said_of_nothing() -> None:
    model, optimizer = model_and_optimizer()
    log = [1]

    def change() -> None:
        local = [*log, torch.ones(3) @ model.weight.T, optimizer.param_groups[0]["lr"]]
        local.append(1)

    assert seen(change) == []


class TestOptimizers:
    def test_steps_and_gradients(self) -> None:
        model, optimizer = model_and_optimizer()

        def change() -> None:
            for _ in range(2):
                model(torch.ones(1, 3)).sum().backward()
                optimizer.step()

        assert seen(change) == [
            "SGD.step() done 2 times",
            "model: at least 2 tensors changed in place",
            "model: 2 gradients changed",
        ]
        assert seen(change)[-1] == "model: 2 gradients changed", "added to in place"

    def test_a_step_that_is_broken_off(self) -> None:
        class Short(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:
                raise MemoryError

        optimizer = Short([torch.ones(1, requires_grad=True)], lr=0.1)

        def change() -> None:
            with pytest.raises(MemoryError):
                optimizer.step()

        assert seen(change) == ["Short.step() broken off once"]

    def test_no_hook_stays(self) -> None:
        _, optimizer = model_and_optimizer()
        seen(lambda: None, optimizer=optimizer)
        assert not optimizer._optimizer_step_pre_hooks
        assert not optimizer._optimizer_step_post_hooks


class TestTensors:
    def test_buffers_that_a_forward_pass_moves(self) -> None:
        norm = torch.nn.BatchNorm1d(2)
        assert seen(lambda: norm(torch.ones(4, 2))) == ["norm: at least 1 tensor changed in place"]

    def test_one_in_a_container_and_one_in_an_attribute(self) -> None:
        class Holder:
            pass

        cache, holder = {"a": torch.ones(1)}, Holder()
        holder.value = torch.ones(1)  # type: ignore[attr-defined]

        def change() -> None:
            cache["a"].add_(1)
            holder.value.mul_(2)  # type: ignore[attr-defined]

        assert seen(change) == [
            "cache: at least 1 tensor changed in place",
            "holder: at least 1 tensor changed in place",
        ]

    @pytest.mark.filterwarnings("error")
    def test_those_without_a_version_or_without_a_gradient_of_their_own(self) -> None:
        with torch.inference_mode():
            frozen = torch.ones(1)
        derived = torch.ones(1, requires_grad=True) * 2
        assert seen(lambda: (frozen, derived)) == []

    def test_a_gradient_made_anew_or_taken_away(self) -> None:
        weight = torch.ones(2, requires_grad=True)

        def anew() -> None:
            weight.grad = torch.ones(2)

        def away() -> None:
            weight.grad = None

        assert seen(anew) == seen(anew) == seen(away) == ["weight: 1 gradient changed"]
        assert seen(away) == []

    def test_a_subclass_does_not_hear_of_it(self) -> None:
        class Loud(torch.Tensor):
            @classmethod
            def __torch_function__(cls, *_args: Any, **_options: Any) -> Any:
                pytest.fail("user code was run")

        loud = torch.ones(1).as_subclass(Loud)
        assert seen(lambda: loud) == []

    def test_one_that_is_gone_has_not_changed(self) -> None:
        change, _ = in_module("global weight; del weight", weight=torch.ones(1))
        assert seen(change) == ["names deleted: weight"]


class TestRandomNumbers:
    def test_all_that_were_drawn_are_named(self) -> None:
        mine = np.random.default_rng(1)

        def change() -> None:
            random.random()
            np.random.rand()
            torch.rand(1)
            mine.random()

        assert seen(change) == ["random numbers drawn: random, numpy, torch, mine"]
        assert seen(change, restored=True) == []

    def test_they_are_put_back(self) -> None:
        def draw() -> list[float]:
            return [random.random(), np.random.rand(), float(torch.rand(1))]

        watch = Watch(Callee(draw, (), {}))
        first = draw()
        assert watch.seen(restored=False) == ["random numbers drawn: random, numpy, torch"]
        watch.rewind()
        assert watch.seen(restored=False) == []
        assert draw() == first

    def test_a_stream_that_does_not_tell_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def silent() -> Any:
            raise RuntimeError("not while a graph is recorded")

        monkeypatch.setattr(torch, "get_rng_state", silent)
        assert seen(lambda: torch.rand(1)) == []


class TestContainers:
    def test_those_that_grew_or_shrank(self) -> None:
        log, table, left = [1], {"a": 1}, {1, 2, 3}

        def change() -> None:
            log.extend((1, 2))
            table["b"] = 1
            left.pop()

        assert seen(change) == ["left: 1 element fewer", "log: 2 elements more", "table: 1 element more"]

    def test_another_one_of_the_same_name_has_not_grown(self) -> None:
        change, _ = in_module("global log; log = [1, 2]", log=[])
        assert seen(change) == ["names rebound: log"]


class TestNames:
    def test_rebound_made_and_deleted(self) -> None:
        change, _ = in_module(
            "global count, model, made, old; count += 1; model = [1]; made = 1; del old",
            count=300,
            model=[1],
            old=1,
        )
        assert seen(change) == ["names rebound: count, model", "names made: made", "names deleted: old"]

    @pytest.mark.parametrize("value", [None, True, 300, 2.5, 3j, "text", b"text", "x" * 2000, (1,), object])
    def test_those_that_stay(self, value: object) -> None:
        change, _ = in_module("global x; x = x", x=value)
        assert seen(change) == []

    def test_the_same_number_again_is_no_change(self) -> None:
        change, _ = in_module("global x; x = int('300')", x=300)
        assert seen(change) == []
        change, _ = in_module("global x; x = True", x=1)
        assert seen(change) == ["names rebound: x"]

    def test_in_a_closure(self) -> None:
        best = 0.5

        def change() -> None:
            nonlocal best
            best += 1

        assert seen(change) == ["names rebound: best"]

    def test_many_are_counted(self) -> None:
        names = [f"name{n}" for n in range(8)]
        change, _ = in_module(f"global {', '.join(names)}; {' = '.join(names)} = 1")
        assert seen(change) == ["names made: name0, name1, name2, name3, name4 and 3 more"]

    def test_an_object_that_takes_the_place_of_another_is_seen(self) -> None:
        class Thing:
            def __eq__(self, other: object) -> bool:
                pytest.fail("user code was run")

            __hash__ = None  # type: ignore[assignment]

        # The new one may well get the old one's address.
        change, _ = in_module("global thing; thing = None; thing = Thing()", thing=Thing(), Thing=Thing)
        assert seen(change) == ["names rebound: thing"]


def test_nothing_of_the_user_s_is_kept_alive() -> None:
    class Thing:
        pass

    tensor, thing, model = torch.ones(3), Thing(), torch.nn.Linear(1, 1)
    space: dict[str, Any] = {"tensor": tensor, "thing": thing, "model": model, "held": [thing, tensor]}
    references = [weakref.ref(tensor), weakref.ref(thing), weakref.ref(model)]
    exec("def change(): return tensor, thing, model, held", space)
    watch = Watch(Callee(space["change"], (), {}))
    for name in ("tensor", "thing", "model", "held"):
        del space[name]
    del tensor, thing, model
    gc.collect()
    assert [reference() for reference in references] == [None, None, None]
    assert watch.seen(restored=False) == ["names deleted: tensor, thing, model, held"]
