"""What a callable is made of: its functions, the names they use, and the objects behind those names."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["Callee", "attributes", "functions"]

# A notebook's function and its helpers; whole libraries are not walked.
_MOST_FUNCTIONS = 100


def functions(fn: Any) -> tuple[types.FunctionType, ...]:
    """Return the Python functions behind ``fn``, its own first, then those it wraps or names in its module.

    Args:
        fn: Anything that can be called: a function, method, partial, wrapper or callable object.
    """
    found: list[types.FunctionType] = []
    left = [fn]
    while left and len(found) < _MOST_FUNCTIONS:
        one = left.pop()
        if type(one) is types.MethodType:
            left.append(one.__func__)
        elif isinstance(one, functools.partial):
            left.append(one.func)
        elif type(one) is not types.FunctionType:
            left += _call_of(type(one))
        elif not any(one is known for known in found):
            found.append(one)
            left += [wrapped for name, wrapped in one.__dict__.items() if name == "__wrapped__"]
            left += [
                value
                for _, value in _globals(one)
                if type(value) is types.FunctionType and value.__globals__ is one.__globals__
            ]
    return tuple(found)


class Callee:
    """One callable with what it is called with.

    Args:
        fn: The callable.
        args: What it gets after the batch size.
        state: Further objects by name, which it changes.
    """

    def __init__(self, fn: Any, args: Iterable[Any], state: Mapping[str, Any]) -> None:
        self._fn = fn
        self._args = tuple(args)
        self._state = state
        self._functions = functions(fn)

    @property
    def name(self) -> str:
        """What to call it in a text."""
        return self._functions[0].__name__ if self._functions else type(self._fn).__name__

    def anchors(self) -> tuple[Any, ...]:
        """Return the objects that tell it from others: its function, and what the function is bound to."""
        fn = self._fn
        while isinstance(fn, functools.partial):
            fn = fn.func
        return (fn.__func__, fn.__self__) if type(fn) is types.MethodType else (fn,)

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yield the objects it is called with, by name."""
        fn, bound = self._fn, 0
        while isinstance(fn, functools.partial):
            yield from ((name, value) for name, value in fn.keywords.items())
            yield from ((f"argument {n}", value) for n, value in enumerate(fn.args, 1))
            bound += len(fn.args)
            fn = fn.func
        if type(fn) is types.MethodType:
            yield "self", fn.__self__
            bound += 1
        names: tuple[str, ...] = ()
        if self._functions:
            code = self._functions[0].__code__
            # The batch size comes before the rest.
            names = code.co_varnames[bound + 1 : code.co_argcount]
        for number, value in enumerate(self._args):
            yield names[number] if number < len(names) else f"argument {number + 1}", value

    def named(self) -> Iterator[tuple[str, Any]]:
        """Yield the objects its functions can reach by name, as they are now."""
        for function in self._functions:
            yield from _closure(function)
            yield from _globals(function)

    def objects(self) -> Iterator[tuple[str, Any]]:
        """Yield all objects that it is known to reach, those named by the user first."""
        yield from self._state.items()
        yield from self.given()
        yield from self.named()

    def names(self) -> dict[tuple[int, str], Any]:
        """Return what each name is bound to: those of the closures, and all in the functions' modules."""
        bound: dict[tuple[int, str], Any] = {}
        for number, function in enumerate(self._functions):
            bound.update(((number, name), value) for name, value in _closure(function))
            space = function.__globals__
            bound.update(((id(space), name), value) for name, value in tuple(dict.items(space)))
        return bound


def attributes(thing: Any) -> dict[str, Any]:
    """Return the instance dictionary of ``thing`` without running any code of its class."""
    for base in type(thing).__mro__:
        slot = base.__dict__.get("__dict__")
        if slot is not None:
            found = slot.__get__(thing) if type(slot) is types.GetSetDescriptorType else None
            return found if type(found) is dict else {}
    return {}


def _call_of(kind: type) -> list[Any]:
    found = next((base.__dict__["__call__"] for base in kind.__mro__ if "__call__" in base.__dict__), None)
    return [found] if type(found) is types.FunctionType else []


def _closure(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        for value in _content(cell):
            yield name, value


def _content(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # not bound yet
        return []


def _globals(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    space = function.__globals__
    for name in _names_in(function.__code__):
        if name in space:
            yield name, space[name]


def _names_in(code: types.CodeType) -> dict[str, None]:
    """Return the global names that a code object and those inside it use, in order; attributes too."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            names.update(_names_in(constant))
    return names
