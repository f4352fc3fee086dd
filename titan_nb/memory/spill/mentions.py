"""Which variables a cell is about to use, as far as its text and the functions it calls tell."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType
from typing import Any

__all__ = ["mentioned"]

# As `vars` would, for a class whose own attribute of that name lies.
_attributes = type.__dict__["__dict__"].__get__
_NAME = re.compile(r"[^\W\d]\w*")


def mentioned(source: str, namespace: Mapping[str, object]) -> set[str]:
    """Return the names in ``namespace`` that a cell mentions, or functions and classes that it mentions do.

    Too many rather than too few: words in strings and comments count, and so does every method of a class.

    Args:
        source: The cell's text, with whatever magics it has.
        namespace: The user's variables.
    """
    found: set[str] = set()
    left = [name for name in _NAME.findall(source) if name in namespace]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [one for one in _names_used_by(namespace[name], namespace) if one in namespace]
    return found


def _names_used_by(thing: object, namespace: Mapping[str, object]) -> Iterator[str]:
    """Yield the global names in the code of a function, a class, or the class of an object."""
    seen: set[int] = set()
    left: list[Any] = [thing if isinstance(thing, type) else type(thing), thing]
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        kind = type(one)
        if kind is FunctionType and one.__globals__ is namespace:
            yield from _names_in(one.__code__)
            left += [cell.cell_contents for cell in one.__closure__ or () if _is_full(cell)]
        elif kind is MethodType or kind in (staticmethod, classmethod):
            left.append(one.__func__)
        elif kind is property:
            left += [one.fget, one.fset, one.fdel]
        elif issubclass(kind, type):
            left += [part for base in type.mro(one) for part in tuple(_attributes(base).values())]


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is CodeType:
            yield from _names_in(constant)


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - a variable that is not yet assigned has no contents
    except ValueError:
        return False
    return True
