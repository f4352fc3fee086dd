"""What a function is made of, as text that is the same in every session of one Python."""

from __future__ import annotations

import dis
import hashlib
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any

__all__ = ["digest", "parts_of_code", "plain", "used"]


def digest(parts: Iterable[str]) -> str:
    """Return eight hexadecimal digits that differ where the parts differ."""
    return hashlib.sha256("\n".join(parts).encode(errors="backslashreplace")).hexdigest()[:8]


def plain(value: Any) -> str:
    """Return a text or a number as it is written, and of anything else nothing."""
    return repr(value) if type(value) in (str, bytes, int, float, bool, type(None)) else ""


def parts_of_code(code: CodeType) -> Iterator[str]:
    """Yield what the code does; neither its place in a file nor the names of its own variables."""
    yield code.co_code.hex()
    yield repr(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from parts_of_code(constant)
        else:
            # The order of a set is another one in each session.
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def used(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function uses from outside, with its names there.

    What it assigns itself is left out: that is its memory, not what it was made with.
    """
    code = function.__code__
    names = {name: _names(code, name) for name in ("LOAD_GLOBAL", "STORE_GLOBAL", "STORE_DEREF")}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        if name not in names["STORE_DEREF"]:
            try:
                yield name, cell.cell_contents
            except ValueError:  # nothing is in it yet
                continue
    for name in sorted(names["LOAD_GLOBAL"] - names["STORE_GLOBAL"]):
        if name in function.__globals__:
            yield name, function.__globals__[name]


def _names(code: CodeType, operation: str) -> set[str]:
    names = {str(step.argval) for step in dis.get_instructions(code) if step.opname == operation}
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant, operation)
    return names
