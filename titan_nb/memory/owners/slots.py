"""What objects refer to, read from C slots: no code of their classes runs, and none of them is changed."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Mapping
from functools import partial
from types import FrameType, FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType
from typing import Any

__all__ = [
    "attributes_of",
    "bases_of",
    "class_name",
    "has_referents",
    "inherits",
    "is_one_of",
    "locals_of",
    "members_of",
    "package_of",
    "slots_of",
]

# The metaclass may answer for `cls.__mro__` and the like; these slots of `type` cannot lie.
_MRO = type.__dict__["__mro__"].__get__
_DICT = type.__dict__["__dict__"].__get__
_NAME = type.__dict__["__name__"].__get__
_FLAGS = type.__dict__["__flags__"].__get__
_HAVE_GC = 1 << 14  # Py_TPFLAGS_HAVE_GC
_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE


def bases_of(cls: type) -> tuple[type, ...]:
    """Return a class and all it inherits from."""
    return _MRO(cls)  # type: ignore[no-any-return]


def inherits(cls: type, base: type) -> bool:
    """Return whether a class is ``base`` or inherits from it, whatever its metaclass says."""
    return type.__subclasscheck__(base, cls)


def is_one_of(cls: type, classes: tuple[type, ...]) -> bool:
    """Return whether a class is one of ``classes``; with ``in`` its metaclass would be asked."""
    return any(cls is one for one in classes)


def class_name(cls: type) -> str:
    """Return the name of a class."""
    return str(_NAME(cls))


def slots_of(cls: type) -> Mapping[str, Any]:
    """Return what a class itself defines, without what it inherits."""
    return _DICT(cls)  # type: ignore[no-any-return]


def package_of(cls: type) -> str:
    """Return the name of the package that a class comes from; empty for those written in C."""
    module = _DICT(cls).get("__module__")
    return module.partition(".")[0] if type(module) is str else ""


def has_referents(cls: type) -> bool:
    """Return whether objects of a class can tell Python's garbage collector what they refer to."""
    return bool(_FLAGS(cls) & _HAVE_GC)


def attributes_of(thing: Any) -> dict[str, Any]:
    """Return the instance dictionary of ``thing``; an empty one where it has none."""
    for base in _MRO(type(thing)):
        slot = _DICT(base).get("__dict__")
        if type(slot) is GetSetDescriptorType:
            with contextlib.suppress(Exception):
                found = slot.__get__(thing)
                if inherits(type(found), dict):
                    return found  # type: ignore[no-any-return]
            break
    return {}


def members_of(thing: Any) -> dict[str, Any]:
    """Return what ``thing`` holds in ``__slots__``, and in the members of a class written in C."""
    found = {}
    for base in _MRO(type(thing)):
        for name, slot in _DICT(base).items():
            if type(slot) is MemberDescriptorType:
                with contextlib.suppress(Exception):  # not set
                    found[name] = slot.__get__(thing)
    return found


def locals_of(frame: FrameType) -> dict[str, Any]:
    """Return the local variables of a frame; nothing for that of a module or a cell.

    Before Python 3.13 each reading of ``f_locals`` leaves a copy of the variables in the frame, which keeps
    them alive after the function has let go of them. That copy is emptied where nobody else has it.
    """
    if not frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        # The dictionary is the user's own, as in the body of a class.
        own = frame.f_locals
        return dict(own) if type(own) is dict and own is not frame.f_globals else {}
    copy = frame.f_locals
    found = dict(copy)
    # Three: the frame, `copy`, and the argument of the call.
    if type(copy) is dict and sys.getrefcount(copy) <= 3 and not _is_python(frame.f_trace):
        copy.clear()
    return found


def _is_python(tracer: Any) -> bool:
    """Return whether a trace function runs Python code, after which Python writes the copy back."""
    cls = type(tracer)
    return is_one_of(cls, (FunctionType, MethodType, partial)) or bool(_FLAGS(cls) & _HEAP_TYPE)
