"""Conditions on metadata: how they are written, and what they mean."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from titan_nb.errors import ChatError

__all__ = ["OPERATORS", "Condition", "Scalar", "fulfils", "read_where", "sqlite_clause"]

Scalar = str | int | float | bool | None

_ORDER = ("$gt", "$gte", "$lt", "$lte")
_MOST_NEEDLES = 100
"""SQLite nests no expression deeper than 1000, and takes as few as 999 parameters."""

OPERATORS = ("$eq", "$ne", *_ORDER, "$in", "$exists")


@dataclass(frozen=True, slots=True)
class Condition:
    """What one key of an item's metadata must be.

    Attributes:
        path: The key, with the keys it is nested in before it.
        operator: One of `OPERATORS`.
        value: Text, number, bool or None to compare with; a tuple of them for ``$in``; a bool for
            ``$exists``; text or a number for what asks for an order.
    """

    path: tuple[str, ...]
    operator: str
    value: Scalar | tuple[Scalar, ...]


def read_where(where: Mapping[Any, Any] | None) -> tuple[Condition, ...]:
    """Read conditions as a user writes them; an item must fulfil all of them.

    ``{"role": "user", "cell": {"$gte": 3, "$lt": 9}, "author.name": "Ada"}``: a plain value means equal, a
    dot leads to a nested key. Where a key itself holds a dot, a tuple of keys names it: ``("version.txt",)``.

    Raises:
        ChatError: If it cannot be read; it names the key.
    """
    if where is None:
        return ()
    if not isinstance(where, Mapping):
        raise ChatError(
            f"where is a {type(where).__name__}: give a dict of keys and values, such as {{'role': 'user'}}"
        )
    conditions: list[Condition] = []
    for key, wanted in where.items():
        path = _read_path(key)
        if not isinstance(wanted, Mapping):
            conditions.append(Condition(path, "$eq", _read_scalar(wanted, f"where[{key!r}]")))
            continue
        if not wanted:
            raise ChatError(f"where[{key!r}] is an empty dict: give a value, or one of {_known()}")
        for operator, value in wanted.items():
            conditions.append(_read_condition(key, path, operator, value))
    return tuple(conditions)


def fulfils(metadata: Mapping[str, Any] | None, condition: Condition) -> bool:
    """Say whether an item with this metadata fulfils a condition.

    True is not 1, and 1 equals 1.0; values of different kinds are not equal and have no order; text is
    ordered by code points. A key that is not there fulfils only ``$ne`` and ``{"$exists": False}``.
    """
    value: Any = metadata
    there = True
    for key in condition.path:
        if not isinstance(value, dict) or key not in value:
            there = False
            break
        value = value[key]
    operator, wanted = condition.operator, condition.value
    if operator == "$exists":
        return there is wanted
    if operator == "$ne":
        return not (there and _equal(value, wanted))
    if not there:
        return False
    if operator == "$eq":
        return _equal(value, wanted)
    if operator == "$in":
        return any(_equal(value, one) for one in wanted)  # type: ignore[union-attr]
    if _kind(value) is not _kind(wanted):
        return False
    if operator == "$gt":
        return bool(value > wanted)
    if operator == "$gte":
        return bool(value >= wanted)
    if operator == "$lt":
        return bool(value < wanted)
    return bool(value <= wanted)


def sqlite_clause(conditions: tuple[Condition, ...]) -> tuple[str, list[str]]:
    """Return SQL to follow ``WHERE ...``, and its parameters: true for all items that fulfil ``conditions``.

    It is a sieve, not a verdict: metadata that cannot fulfil them, because its JSON does not hold the key or
    the text that is asked for, is left out at a tenth of the cost of reading it. What passes must still be
    shown to `fulfils`, since SQLite's own JSON functions cut text at its first NUL, take the first of two
    equal keys, turn large integers into floats and, by version, round other floats.
    """
    needles: list[str] = []
    for condition in conditions:
        if condition.operator == "$ne" or condition.value is False:
            continue  # what is not there may fulfil these; False is no more than a saving not made
        needles += [key for key in condition.path if _as_in_json(key)]
        if condition.operator == "$eq" and isinstance(condition.value, str) and _as_in_json(condition.value):
            needles.append(condition.value)
    needles = needles[:_MOST_NEEDLES]
    clause = "".join(" AND instr(metadata, ?)" for _ in needles)
    return clause, [f'"{needle}"' for needle in needles]


def _as_in_json(text: str) -> bool:
    """Say whether every writer of JSON leaves ``text`` as it is."""
    return text.isascii() and text.isprintable() and not any(sign in text for sign in '"\\/')


def _read_path(key: Any) -> tuple[str, ...]:
    path = tuple(key.split(".")) if isinstance(key, str) else key
    if not isinstance(path, tuple) or not path or not all(isinstance(part, str) for part in path):
        raise ChatError(f"where has the key {key!r}: give a text such as 'role', or 'author.name' if nested")
    return path


def _read_condition(key: Any, path: tuple[str, ...], operator: Any, value: Any) -> Condition:
    subject = f"where[{key!r}][{operator!r}]"
    if operator not in OPERATORS:
        near = difflib.get_close_matches(str(operator), OPERATORS, n=1)
        remedy = f"did you mean {near[0]!r}? There are" if near else "for a nested key write a dot; there are"
        raise ChatError(f"where[{key!r}] has no operator {operator!r}: {remedy} {_known()}")
    if operator == "$exists":
        if not isinstance(value, bool):
            raise ChatError(f"{subject} is {value!r}: give True or False")
        return Condition(path, operator, value)
    if operator == "$in":
        if not isinstance(value, (list, tuple, set, frozenset)):
            raise ChatError(f"{subject} is a {type(value).__name__}: give a list of values")
        return Condition(path, operator, tuple(_read_scalar(one, subject) for one in value))
    wanted = _read_scalar(value, subject)
    if operator in _ORDER and (wanted is None or isinstance(wanted, bool)):
        raise ChatError(f"{subject} is {wanted!r}, which has no order: give a number or a text")
    return Condition(path, operator, wanted)


def _read_scalar(value: Any, subject: str) -> Scalar:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    # The abstract classes, so that NumPy's numbers are taken too.
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        if not math.isfinite(number):
            raise ChatError(f"{subject} is {number}, which JSON cannot hold: give a finite number")
        return number
    raise ChatError(f"{subject} is a {type(value).__name__}: give a text, a number, True, False or None")


def _equal(value: Any, wanted: Any) -> bool:
    return _kind(value) is _kind(wanted) is not None and bool(value == wanted)


def _kind(value: Any) -> type | None:
    """Return what stands for the kind of ``value``; None for lists and dicts, which equal nothing."""
    if value is None:
        return type(None)
    if isinstance(value, bool):
        return bool
    if isinstance(value, (int, float)):
        return float
    return str if isinstance(value, str) else None


def _known() -> str:
    return ", ".join(OPERATORS)
