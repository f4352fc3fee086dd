"""Which exceptions and frames are kept, which may be let go, and that nothing else changes."""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from titan_nb.memory import failures
from titan_nb.memory.failures import exceptions_in, finished_frames, forget_variables

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup


class Big:
    """Something whose end can be watched."""


watched: list[weakref.ref[Big]] = []


@pytest.fixture(autouse=True)
def _watched() -> Iterator[None]:
    watched.clear()
    yield
    watched.clear()


def big() -> Big:
    made = Big()
    watched.append(weakref.ref(made))
    return made


def alive() -> int:
    gc.collect()
    return sum(one() is not None for one in watched)


def fail(error: type[BaseException] = MemoryError) -> None:
    raise error("short")


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def let_go(*roots: object) -> None:
    forget_variables(finished_frames(roots))


def plain() -> None:
    held = big()
    fail()
    del held


def from_cause() -> None:
    kept = big()
    try:
        plain()
    except MemoryError as error:
        raise ValueError("outer") from error
    del kept


def during() -> None:
    kept = big()
    try:
        plain()
    except MemoryError:
        fail(KeyError)
    del kept


def from_none() -> None:
    try:
        plain()
    except MemoryError:
        raise ValueError("outer") from None


def in_generator() -> None:
    def made() -> Iterator[Big]:
        held = big()
        yield held
        fail()

    list(made())


def in_coroutine() -> None:
    async def inner() -> None:
        held = big()
        await asyncio.sleep(0)
        fail()
        del held

    async def outer() -> None:
        held = big()
        await inner()
        del held

    asyncio.run(outer())


def in_cycle() -> None:
    held: list[Any] = [big()]
    held.append(held)
    fail()


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (plain, 1),
        (from_cause, 2),
        (during, 2),
        (from_none, 1),
        (in_generator, 1),
        (in_coroutine, 2),
        (in_cycle, 1),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_variables_go_and_the_traceback_stays(function: Callable[[], None], count: int) -> None:
    error = caught(function)
    assert alive() == count
    before = traceback.format_exception(error)
    for one in exceptions_in([error]):
        for frame, _ in traceback.walk_tb(one.__traceback__):
            _ = frame.f_locals  # as IPython does when it shows them
    let_go(error)
    assert alive() == 0
    assert traceback.format_exception(error) == before


def test_a_group_of_tasks() -> None:
    errors = [caught(plain), ValueError(), caught(from_cause)]
    group = ExceptionGroup("tasks", [ExceptionGroup("some", errors[:2]), errors[2]])
    assert alive() == 3
    let_go(group)
    assert alive() == 0


def test_groups_from_the_package_for_older_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    class BaseExceptionGroup(BaseException):
        @property
        def exceptions(self) -> tuple[BaseException, ...]:
            return self.args[1]  # type: ignore[no-any-return]

    package = types.ModuleType("exceptiongroup")
    package.BaseExceptionGroup = BaseExceptionGroup  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "exceptiongroup", package)
    inner = ValueError()
    assert list(exceptions_in([BaseExceptionGroup("tasks", (inner,))]))[1] is inner


def test_each_exception_once_and_the_likeliest_first() -> None:
    first, cause, context = ValueError("first"), KeyError("cause"), OSError("context")
    first.__cause__, first.__context__ = cause, context
    cause.__context__ = first
    context.__cause__ = cause
    assert list(exceptions_in([first, None, "text", cause])) == [first, cause, context]


def test_a_long_chain() -> None:
    last: BaseException = ValueError()
    for _ in range(20_000):
        following = ValueError()
        following.__context__ = last
        last = following
    assert sum(1 for _ in exceptions_in([last])) == 20_001
    while last.__context__ is not None:  # the interpreter itself would recurse into it
        last, last.__context__ = last.__context__, None


def test_attributes_that_lie_are_not_asked() -> None:
    class Lying(MemoryError):
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"asked for {name}")

    def failing() -> None:
        held = big()
        raise Lying
        del held

    try:
        failing()
    except MemoryError as error:
        assert alive() == 1
        forget_variables(frame for frame in finished_frames([error]))
        assert alive() == 0


def test_a_traceback_alone_will_do() -> None:
    error = caught(plain)
    kept = error.__traceback__
    error.__traceback__ = None
    let_go(error)
    assert alive() == 1
    let_go(kept)
    assert alive() == 0


def test_callers_that_returned_are_let_go_as_well() -> None:
    saved: list[BaseException] = []

    def catching() -> None:
        saved.append(caught(plain))

    def returned() -> None:
        held = big()
        catching()
        del held

    def returned_with_it() -> Big:
        held = big()
        catching()
        return held

    returned()
    returned_with_it()
    assert alive() == 3
    let_go(*saved)
    assert alive() == 0


def test_frames_in_use_are_left_alone() -> None:
    closed: list[str] = []
    saved: list[BaseException] = []

    def waiting() -> Iterator[str]:
        held = big()
        saved.append(caught(plain))
        try:
            yield "first"
            yield "second" if held else ""
        finally:
            closed.append("now")

    generator = waiting()
    assert next(generator) == "first"
    here = big()
    try:
        raise ValueError from saved[0]
    except ValueError as error:
        let_go(error)
    assert not closed
    assert next(generator) == "second"
    assert alive() == 2
    assert here is watched[-1]()
    generator.close()
    assert closed == ["now"]


def test_a_waiting_coroutine_is_left_alone() -> None:
    saved: list[BaseException] = []

    async def waiting() -> str:
        held = big()
        saved.append(caught(plain))
        await asyncio.sleep(0)
        return "done" if held else ""

    async def main() -> str:
        task = asyncio.ensure_future(waiting())
        while not saved:
            await asyncio.sleep(0)
        let_go(*saved)
        return await task

    assert asyncio.run(main()) == "done"


def test_namespaces_stay_as_they_are() -> None:
    namespace: dict[str, Any] = {"fail": fail, "big": big}
    error = caught(lambda: exec(compile("held = big()\nfail()", "<cell>", "exec"), namespace))
    let_go(error)
    assert alive() == 1
    assert namespace["held"] is watched[0]()


def test_twice_is_as_good_as_once() -> None:
    error = caught(from_cause)
    let_go(error)
    before = traceback.format_exception(error)
    let_go(error)
    assert traceback.format_exception(error) == before


def test_a_frame_that_runs_after_all_is_passed_over() -> None:
    held = big()
    error = caught(plain)
    forget_variables([sys._getframe(), *finished_frames([error])])
    assert alive() == 1
    assert held is watched[0]()


class TestPython310:
    """There a frame does not tell the collector who owns it."""

    @pytest.fixture(autouse=True)
    def _as_3_10(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(failures, "sys", types.SimpleNamespace(version_info=(3, 10), modules=sys.modules))

    def test_frames(self) -> None:
        error = caught(from_cause)
        let_go(error)
        assert alive() == 0

    def test_a_generator_that_ended_and_one_that_waits(self) -> None:
        test_frames_in_use_are_left_alone()
        watched.clear()
        error = caught(in_generator)
        let_go(error)
        assert alive() == 0

    def test_the_class_of_what_refers_to_a_frame_is_not_asked(self) -> None:
        asked: list[str] = []

        class Meta(type):
            def __eq__(cls, other: object) -> bool:
                asked.append("__eq__")
                return cls is other

            __hash__ = type.__hash__

        class Holder(metaclass=Meta):
            def __init__(self, frame: object) -> None:
                self.frame = frame

        error = caught(in_generator)
        assert error.__traceback__ is not None
        held = [Holder(frame) for frame, _ in traceback.walk_tb(error.__traceback__)]
        let_go(error)
        assert held
        assert asked == []
        assert alive() == 0

    def test_what_is_frozen_cannot_be_seen_and_is_left(self) -> None:
        error = caught(in_coroutine)
        gc.freeze()
        try:
            let_go(error)
        finally:
            gc.unfreeze()
        assert alive() == 2
