"""What a callable is made of."""

from __future__ import annotations

import functools
import types
from typing import Any

import pytest

from titan_nb.memory.callee import Callee, attributes, functions

LIMIT = 3


def helper() -> int:
    return LIMIT


def user(batch: int, data: object) -> int:
    return helper() + batch


def names(found: tuple[types.FunctionType, ...]) -> list[str]:
    return [function.__name__ for function in found]


class Trainer:
    def __init__(self) -> None:
        self.rate = 0.1

    def fit(self, batch: int, data: object) -> int:
        return batch

    def __call__(self, batch: int) -> int:
        return batch


class TestFunctions:
    def test_a_function_with_those_it_names_in_its_module(self) -> None:
        assert names(functions(user)) == ["user", "helper"]

    def test_methods_partials_and_callable_objects(self) -> None:
        trainer = Trainer()
        assert names(functions(trainer.fit)) == ["fit"]
        assert names(functions(functools.partial(trainer.fit, data=1))) == ["fit"]
        assert names(functions(trainer)) == ["__call__"]

    def test_wrappers_come_before_what_they_wrap(self) -> None:
        @functools.wraps(user)
        def wrapper(batch: int) -> int:
            return batch

        assert functions(wrapper)[0] is wrapper
        assert functions(wrapper)[1] is user

    def test_functions_that_name_one_another(self) -> None:
        space: dict[str, Any] = {}
        exec("def a(): b()\ndef b(): a()", space)
        assert names(functions(space["a"])) == ["a", "b"]

    def test_of_a_c_function_there_are_none(self) -> None:
        assert functions(print) == ()
        assert Callee(print, (), {}).name == "builtin_function_or_method"

    def test_a_large_module_is_not_walked(self) -> None:
        space: dict[str, Any] = {}
        exec("\n".join(f"def f{n}(): f{n + 1}()" for n in range(500)), space)
        assert len(functions(space["f0"])) == 100


class TestNames:
    def test_of_arguments_partials_and_methods(self) -> None:
        trainer = Trainer()
        assert list(Callee(user, ["rows"], {}).given()) == [("data", "rows")]
        assert list(Callee(trainer.fit, ["rows"], {}).given()) == [("self", trainer), ("data", "rows")]
        bound = functools.partial(lambda batch, *rest, **more: None, 1, key="value")
        assert list(Callee(bound, ["x"], {}).given()) == [
            ("key", "value"),
            ("argument 1", 1),
            ("argument 1", "x"),
        ]
        assert list(Callee(print, ["x"], {}).given()) == [("argument 1", "x")]

    def test_of_closures_that_are_bound(self) -> None:
        log: list[int] = []

        def train(batch: int) -> None:
            log.append(batch)
            later()

        assert [name for name, _ in Callee(train, (), {}).named() if name in ("log", "later")] == ["log"]
        later = helper
        assert ("later", later) in list(Callee(train, (), {}).named())

    def test_of_globals_in_functions_inside(self) -> None:
        space: dict[str, Any] = {"model": 1, "other": 2}
        exec("def train(batch):\n    def inner():\n        return model\n    return inner()", space)
        assert list(Callee(space["train"], (), {}).named()) == [("model", 1)]

    def test_given_by_the_user_come_first(self) -> None:
        assert next(iter(Callee(user, ["rows"], {"mine": 5}).objects())) == ("mine", 5)

    def test_all_of_a_module_s_are_compared(self) -> None:
        space: dict[str, Any] = {"unused": 1}
        exec("def train(batch): ...", space)
        callee = Callee(space["train"], (), {})
        before = callee.names()
        space["new"] = 2
        del space["unused"]
        assert {name for _, name in before} - {name for _, name in callee.names()} == {"unused"}
        assert {name for _, name in callee.names()} - {name for _, name in before} == {"new"}


def test_anchors_outlive_the_method_and_the_partial() -> None:
    trainer = Trainer()
    assert Callee(functools.partial(trainer.fit), (), {}).anchors() == (Trainer.fit, trainer)
    assert Callee(user, (), {}).anchors() == (user,)


class Liar:
    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        pytest.fail("user code was run")


class Slots:
    __slots__ = ("value",)


def test_attributes_are_read_without_running_code() -> None:
    assert attributes(Trainer()) == {"rate": 0.1}
    assert attributes(Liar()) == {}
    assert attributes(Slots()) == {}
    assert attributes(Trainer) == {}
    assert attributes(types) == {}
