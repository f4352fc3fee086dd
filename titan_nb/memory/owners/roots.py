"""Where a search for memory begins: what the user has a name for."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Literal

from titan_nb.memory.owners.slots import attributes_of, inherits, slots_of

__all__ = [
    "MACHINERY",
    "Kind",
    "Root",
    "frames",
    "is_machinery",
    "last_failure",
    "module_namespaces",
    "variables",
]

Kind = Literal[
    "variable",
    "parameter",
    "grad",
    "optimizer state",
    "view",
    "closure",
    "generator",
    "autograd",
    "Out",
    "failed cell",
    "thread",
    "mapped",
    "no name",
]
"""How memory is held.

*view*: by a tensor or an array that shows only a part of it. *mapped*: a file or shared memory, which is in
RAM only as far as it has been touched.
"""

# They serve the notebook or the interpreter: their frames call the user's, and their objects hold the shell.
MACHINERY = {
    *("IPython", "ipykernel", "ipyparallel", "jupyter_client", "tornado", "zmq", "traitlets", "titan_nb"),
    *("asyncio", "concurrent", "threading", "selectors", "runpy", "_pytest", "pluggy", "debugpy", "pydevd"),
}


_STANDARD_LIBRARY = str(Path(inspect.__file__).parent)


@dataclass(frozen=True, slots=True)
class Root:
    """One name and what it stands for.

    Attributes:
        name: As the user would write it: ``x``, ``Out[7]``, ``failed cell 12``.
        value: The object; a frame stands for its local variables.
        kind: *variable*, *Out*, *failed cell* or *thread*.
        group: What lets go of the value as one; the names of a group own together. Empty for the name itself.
    """

    name: str
    value: Any
    kind: Kind = "variable"
    group: str = ""

    @property
    def owner(self) -> str:
        """The name of the group."""
        return self.group or self.name


def variables(namespace: Mapping[str, Any]) -> Iterator[Root]:
    """Yield the variables of a namespace, without Python's own such as ``__builtins__``.

    Of modules and classes that the user wrote it yields the variables and attributes, as ``tools.CACHE``.
    """
    for name, value in list(namespace.items()):
        if type(name) is not str or name.startswith("__"):
            continue
        if type(value) is ModuleType and _is_users_own(value):
            inside: Mapping[str, Any] = vars(value)
        elif inherits(type(value), type) and slots_of(value).get("__module__") == "__main__":
            inside = slots_of(value)
        else:
            yield Root(name, value)
            continue
        for key, part in list(inside.items()):
            if type(key) is str and not key.startswith("__"):
                yield Root(f"{name}.{key}", part)


def frames(namespace: Mapping[str, Any], caller: FrameType) -> Iterator[Root]:
    """Yield the running functions of all threads, each with its local variables.

    Args:
        namespace: The namespace that is searched anyway; in this thread, what called its code is left out.
        caller: The function of this thread that asks; its own variables are left out.
    """
    names = dict(map(_ident_and_name, threading.enumerate()))
    current = sys._current_frames()
    # Not this thread's own: a frame that refers to itself keeps all its variables after its end.
    del current[threading.get_ident()]
    for ident, innermost in current.items():
        yield from _calls(f"thread {names.get(ident, ident)}", innermost)
    group = f"thread {names.get(threading.get_ident(), threading.get_ident())}"
    if not _is_cell(caller, namespace):
        yield from _calls(group, caller.f_back, namespace)


def _calls(group: str, frame: FrameType | None, namespace: Mapping[str, Any] | None = None) -> Iterator[Root]:
    """Yield a running function and those that called it, as far as a cell in ``namespace``."""
    while frame is not None and not _is_cell(frame, namespace):
        if not is_machinery(frame):
            yield Root(f"{group} -> {frame.f_code.co_name}()", frame, "thread", group)
        frame = frame.f_back


def _is_cell(frame: FrameType, namespace: Mapping[str, Any] | None) -> bool:
    """Return whether a frame runs the code of a cell; what called that is no code of the user's."""
    return frame.f_globals is namespace and not frame.f_code.co_flags & inspect.CO_OPTIMIZED


def last_failure() -> Iterator[Root]:
    """Yield the exception that Python keeps after it has ended an interactive command."""
    for name in ("last_exc", "last_value", "last_traceback"):
        value = getattr(sys, name, None)
        if value is not None:
            yield Root("last error", value, "failed cell")


def is_machinery(frame: FrameType) -> bool:
    """Return whether a frame belongs to the notebook or the interpreter, and not to the user."""
    return _package(frame.f_globals) in MACHINERY


def module_namespaces() -> set[int]:
    """Return the identity of the namespace of each module; all functions of a module refer to it."""
    return {id(vars(module)) for module in list(sys.modules.values()) if type(module) is ModuleType}


def _is_users_own(module: ModuleType) -> bool:
    """Return whether a module is neither installed nor part of Python."""
    file = vars(module).get("__file__")
    if type(file) is not str or _package(vars(module)) in MACHINERY:
        return False
    return not any(part in file for part in ("site-packages", "dist-packages", _STANDARD_LIBRARY))


def _package(namespace: Mapping[str, Any]) -> str:
    name = namespace.get("__name__")
    return name.partition(".")[0] if type(name) is str else ""


def _ident_and_name(thread: threading.Thread) -> tuple[int | None, str]:
    # Not by its properties: a class of the user's own may have others.
    own = attributes_of(thread)
    ident, name = own.get("_ident"), own.get("_name")
    return ident, name if type(name) is str else "without a name"
