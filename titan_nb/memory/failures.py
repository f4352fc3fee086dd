"""Exceptions that are kept, the frames that they keep, and how to let go of what those frames hold.

A traceback keeps every frame between the failure and whoever caught it, and a frame keeps its variables. To
let go of the variables leaves the exception with its text, files, lines and source.
"""

from __future__ import annotations

import builtins
import gc
import inspect
import sys
from collections.abc import Iterable, Iterator
from types import AsyncGeneratorType, CoroutineType, FrameType, GeneratorType, TracebackType
from typing import Any, cast

__all__ = ["exceptions_in", "finished_frames", "forget_variables"]

# The slots themselves: a class may define attributes of these names that fail or lie.
_TRACEBACK: Any = BaseException.__dict__["__traceback__"]
_CAUSE: Any = BaseException.__dict__["__cause__"]
_CONTEXT: Any = BaseException.__dict__["__context__"]

_RESUMABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def exceptions_in(roots: Iterable[object]) -> Iterator[BaseException]:
    """Yield the exceptions among ``roots``, what they were raised from or during, and what they group.

    Each is yielded once, however they refer to one another. Anything else among ``roots`` is passed over.
    """
    waiting: list[object] = list(reversed(list(roots)))
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        # By the real class: `isinstance` would also run a `__class__` of the user's own.
        if not issubclass(type(one), BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield cast("BaseException", one)
        waiting += [_CONTEXT.__get__(one), _CAUSE.__get__(one), *reversed(_members(one))]


def finished_frames(roots: Iterable[object]) -> list[FrameType]:
    """Return the frames that are kept by exceptions and tracebacks and will never run again.

    Those are the frames of the tracebacks, of the exceptions that `exceptions_in` finds, and the frames that
    called them. Left out are frames that run and generators and coroutines that wait: they are still in use,
    and to clear one of those would run its ``finally``. Python 3.10 does not tell which functions run, so
    there they are among the frames; `forget_variables` passes over them.

    Args:
        roots: Exceptions and tracebacks; anything else is passed over.
    """
    roots = list(roots)
    starts: list[Any] = [one for one in roots if type(one) is TracebackType]
    starts += [_TRACEBACK.__get__(one) for one in exceptions_in(roots)]
    found: dict[int, FrameType] = {}
    seen: set[int] = set()
    for start in starts:
        traceback: TracebackType | None = start
        while traceback is not None and id(traceback) not in seen:
            seen.add(id(traceback))
            frame: FrameType | None = traceback.tb_frame
            # A frame also keeps its caller: one that has caught the exception and returned.
            while frame is not None and id(frame) not in found and _is_finished(frame):
                found[id(frame)] = frame
                frame = frame.f_back
            traceback = traceback.tb_next
    return list(found.values())


def forget_variables(frames: Iterable[FrameType]) -> None:
    """Let go of the local variables of frames that have finished.

    The namespace of a cell or a module belongs to no frame, and stays as it is.
    """
    for frame in frames:
        try:
            frame.clear()
        except RuntimeError:
            continue  # It runs after all, as a debugger may have arranged.
        # A reader of `f_locals`, as IPython's traceback is one, leaves a copy of the variables behind, which
        # clear() empties only since Python 3.13 (https://github.com/python/cpython/issues/113939).
        if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            frame.f_locals  # noqa: B018 - reading brings the copy up to date


def _members(error: object) -> list[object]:
    """Return what an exception group holds; nothing for any other exception."""
    # Built in since Python 3.11, and before that in the package of this name.
    for module in (builtins, sys.modules.get("exceptiongroup")):
        group = getattr(module, "BaseExceptionGroup", None)
        if group is not None and issubclass(type(error), group):
            return list(group.__dict__["exceptions"].__get__(error))
    return []


def _is_finished(frame: FrameType) -> bool:
    if sys.version_info >= (3, 11):
        # Only a frame that has finished owns its code and variables; until then the thread or the generator
        # owns them, and the collector is shown nothing.
        code = frame.f_code
        return any(one is code for one in gc.get_referents(frame))
    if not frame.f_code.co_flags & _RESUMABLE:
        return True  # Or it runs, and clear() refuses.
    owners = (GeneratorType, CoroutineType, AsyncGeneratorType)
    # Not `in`: the class of anything that refers to the frame might have an `__eq__` of its own.
    waits = any(type(one) is owner for one in gc.get_referrers(frame) for owner in owners)
    # The collector does not see objects that were frozen.
    return not waits and not gc.get_freeze_count()
