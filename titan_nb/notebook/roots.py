"""The names that a notebook holds memory under: the user's variables, and slots of IPython's own."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from titan_nb.memory.owners.roots import Root, variables
from titan_nb.memory.owners.slots import inherits

__all__ = ["roots_of"]

_LAST_OUTPUTS = ("_", "__", "___")
_NUMBERED = re.compile(r"_(\d+)\Z")
# Of the tracebacks' frames these are looked at to find the cell; an error in deep recursion has thousands.
_MOST_FRAMES = 100


def roots_of(shell: Any) -> Iterator[Root]:
    """Yield what one shell knows by name.

    These are the user's variables, ``Out[7]`` with each further slot that holds the same output, and the
    errors of failed cells, whose frames keep their local variables.

    Args:
        shell: The IPython shell.
    """
    namespace, hidden = shell.user_ns, shell.user_ns_hidden
    users = {
        name: value
        for name, value in list(namespace.items())
        if not _is_ipythons(name) and (name not in hidden or hidden[name] is not value)
    }
    yield from variables(users)
    yield from _outputs(shell)
    yield from _failures(shell)


def _is_ipythons(name: object) -> bool:
    return type(name) is str and (name in _LAST_OUTPUTS or _NUMBERED.match(name) is not None)


def _outputs(shell: Any) -> Iterator[Root]:
    """Yield each output under its number, and every slot that goes on holding one."""
    slots: list[tuple[str, Any]] = []
    numbered = shell.user_ns.get("_oh")
    if isinstance(numbered, dict):
        slots += [(f"Out[{number}]", value) for number, value in list(numbered.items())]
    for holder in (shell.user_ns, shell.user_ns_hidden):
        found = [(name, value) for name, value in list(holder.items()) if _is_ipythons(name)]
        slots += sorted(found, key=lambda slot: slot[0] in _LAST_OUTPUTS)  # those with a number first
    hook = shell.displayhook
    slots += [(name, getattr(hook, name, None)) for name in _LAST_OUTPUTS]
    result = getattr(shell, "last_execution_result", None)
    slots.append(("last result", getattr(result, "result", None)))
    owners: dict[int, str] = {}
    for name, value in slots:
        number = _NUMBERED.match(name)
        owner = owners.setdefault(id(value), f"Out[{number[1]}]" if number else name)
        yield Root(name, value, "Out", owner)


def _failures(shell: Any) -> Iterator[Root]:
    """Yield each error that is kept after its cell."""
    result = getattr(shell, "last_execution_result", None)
    kept = [getattr(sys, name, None) for name in ("last_exc", "last_value", "last_traceback")]
    kept.append(getattr(getattr(shell, "InteractiveTB", None), "tb", None))
    kept += [getattr(result, name, None) for name in ("error_in_exec", "error_before_exec")]
    for error in kept:
        if error is None:
            continue
        number = _cell_number(shell, error)
        yield Root("failed cell" if number is None else f"failed cell {number}", error, "failed cell")


def _cell_number(shell: Any, error: Any) -> int | None:
    """Return the number of the cell in which an error came up; None when unknown."""
    numbers = getattr(shell.compile, "_filename_map", {})
    traceback = error
    if inherits(type(error), BaseException):
        traceback = BaseException.__dict__["__traceback__"].__get__(error)
    for _ in range(_MOST_FRAMES):
        if type(traceback) is not TracebackType:
            break
        number = numbers.get(traceback.tb_frame.f_code.co_filename)
        if number is not None:
            return int(number)
        traceback = traceback.tb_next
    return None
