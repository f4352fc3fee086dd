"""What functions hold that only finished frames keep, and that nothing else is touched."""

from __future__ import annotations

import functools
import gc
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from titan_nb.memory import closures as module
from titan_nb.memory.closures import empty_closures
from titan_nb.memory.failures import finished_frames, forget_variables


class Big:
    """Something whose end can be watched."""


watched: list[weakref.ref[Big]] = []
elsewhere: list[Any] = []


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    yield
    watched.clear()
    elsewhere.clear()


def big() -> Big:
    made = Big()
    watched.append(weakref.ref(made))
    return made


def fail() -> None:
    raise MemoryError


def closure() -> None:
    held = big()

    def inner() -> Big:
        fail()
        return held

    inner()


def calls_itself() -> None:
    held = big()

    def inner(depth: int) -> Big:
        if depth:
            inner(depth - 1)
        fail()
        return held

    inner(3)


def sisters() -> None:
    held = big()

    def one() -> None:
        other()
        _ = held

    def other() -> None:
        fail()
        _ = held, one

    one()


def defaults() -> None:
    def inner(first: Big = big(), *, second: Big = big()) -> None:  # noqa: B008
        fail()

    inner()


def wrapped() -> None:
    held = big()

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            return function(*args)

        return wrapper

    @decorate
    def inner() -> Big:
        fail()
        return held

    inner()


def attribute() -> None:
    def inner() -> None:
        fail()

    inner.held = big()  # type: ignore[attr-defined]
    inner()


def in_garbage() -> None:
    held = big()

    def inner() -> Big:
        fail()
        return held

    cycle: list[Any] = [inner]
    cycle.append(cycle)
    inner()


def unset() -> None:
    def inner() -> None:
        fail()
        _ = later  # noqa: F821 - it is unset when this runs

    inner()
    later = big()
    del later


def kept_function() -> None:
    held = big()

    def inner() -> Big:
        fail()
        return held

    elsewhere.append(inner)
    inner()


def kept_in_container() -> None:
    held = big()

    def inner() -> Big:
        fail()
        return held

    elsewhere.append({"functions": [inner]})
    inner()


def kept_by_sister() -> None:
    held = big()

    def inner() -> Big:
        fail()
        return held

    elsewhere.append(lambda: held)
    inner()


def kept_cell() -> None:
    held = big()

    def inner() -> Big:
        fail()
        return held

    elsewhere.append(inner.__closure__[0])  # type: ignore[index]
    inner()


def kept_behind_wrapper() -> None:
    held = big()

    def inner() -> Big:
        fail()
        return held

    @functools.wraps(inner)
    def wrapper() -> Any:
        return inner()

    elsewhere.append(wrapper)
    wrapper()


def kept_attributes() -> None:
    def inner() -> None:
        fail()

    inner.held = big()  # type: ignore[attr-defined]
    elsewhere.append(inner.__dict__)
    inner()


def let_go(function: Callable[[], None]) -> BaseException:
    """Fail, let go of all that may be let go, and return the exception, which keeps the frames."""
    try:
        function()
    except MemoryError as error:
        frames = finished_frames([error])
        forget_variables(frames)
        gc.collect()
        empty_closures(frames)
        del frames
        gc.collect()
        return error
    raise AssertionError


@pytest.mark.parametrize(
    "function",
    [closure, calls_itself, sisters, defaults, wrapped, attribute, in_garbage, unset],
    ids=lambda one: one.__name__,
)
def test_what_nobody_can_reach_goes(function: Callable[[], None]) -> None:
    error = let_go(function)
    assert [one() for one in watched] == [None] * len(watched)
    assert error.__traceback__ is not None


@pytest.mark.parametrize(
    "function",
    [kept_function, kept_in_container, kept_by_sister, kept_cell, kept_behind_wrapper, kept_attributes],
    ids=lambda one: one.__name__,
)
def test_what_somebody_can_reach_stays(function: Callable[[], None]) -> None:
    error = let_go(function)
    assert watched[0]() is not None
    assert error.__traceback__ is not None


def test_what_somebody_can_reach_still_works() -> None:
    let_go(kept_function)
    elsewhere.append(kept_by_sister)
    with pytest.raises(MemoryError):
        elsewhere[0]()
    assert elsewhere[0].__closure__[0].cell_contents is watched[0]()


def test_a_function_with_a_weak_reference_keeps_what_it_has() -> None:
    def failing() -> None:
        def inner(first: int = 5) -> int:
            fail()
            return first

        elsewhere.append(weakref.ref(inner))
        inner()

    error = let_go(failing)
    function = elsewhere[0]()
    assert function is None or function.__defaults__ == (5,)  # Python 3.10 frees it with its frame
    assert error.__traceback__ is not None


def test_functions_of_a_frame_that_runs_keep_what_they_hold() -> None:
    held = big()

    def inner(first: int = 5) -> tuple[object, int]:
        return held, first

    let_go(closure)
    assert inner() == (watched[0](), 5)


def test_before_python_3_11_no_function_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    """There no frame keeps its function; and frames that run tell the collector which functions they hold."""
    old = types.SimpleNamespace(version_info=(3, 10), getrefcount=sys.getrefcount)
    monkeypatch.setattr(module, "sys", old)
    function: Any = lambda first=5: first  # noqa: E731
    frame = [function]  # refers to it alone, as the frame that made it does
    del function
    assert empty_closures([frame]) == 0  # type: ignore[list-item]
    assert frame[0]() == 5


def test_a_function_of_a_module_is_never_emptied() -> None:
    error = let_go(closure)
    assert error.__traceback__ is not None
    assert fail.__code__ is not None
    assert big() is not None
    assert finished_frames.__kwdefaults__ is None
    assert let_go.__closure__ is None
    assert empty_closures([]) == 0
