"""One call that may run out of memory, and what is left of it when it does."""

from __future__ import annotations

import contextlib
import gc
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from titan_nb.errors import ResourceError, SettingsError
from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.callee import functions
from titan_nb.memory.failures import exceptions_in
from titan_nb.memory.headroom import ask_for_everything
from titan_nb.memory.shortage import is_shortage, message_of, of_the_host, requested_bytes
from titan_nb.units import byte_size
from titan_nb.whole_number import whole_number

__all__ = ["Done", "Shortage", "attempt", "count_of", "refuse_later_work", "too_small"]

T = TypeVar("T")

_INDEX = re.compile(r"\bGPU ([0-9]+) has a total capacity")
_LATER = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A call that ended well."""

    value: T


@dataclass(frozen=True, slots=True)
class Shortage:
    """A call that found too little memory, whose frames are gone.

    Attributes:
        error: The error without its frames; None unless it was to be kept.
        yielded_bytes: What others have given back since, so that the same call may work now.
    """

    error: BaseException | None
    yielded_bytes: int = 0


def attempt(call: Callable[..., T], *args: Any, keep_error: bool = False) -> Done[T] | Shortage:
    """Call ``call``; where memory is short, give back what the failed call held.

    Every other error passes through.

    Args:
        call: What to do.
        *args: What it is called with.
        keep_error: Whether the error of a shortage is wanted. It then loses its tracebacks, because they hold
            the call's variables; otherwise nobody touches it.
    """
    handled = sys.exc_info()[1]
    try:
        return Done(call(*args))
    except (RuntimeError, MemoryError, ResourceError) as error:
        if not is_shortage(error):
            raise
        kept, of_a_gpu = error if keep_error else None, not of_the_host(error)
        if keep_error:
            _drop_frames(error, handled)
    # Only out here are the frames of the call dead, and with them its variables, but for those in cycles.
    gc.collect()
    yielded, found = 0, accelerator()
    if found is not None:
        # On a GPU that is broken since, the next attempt says so better.
        with contextlib.suppress(RuntimeError):
            yielded = ask_for_everything() if of_a_gpu else 0
            found.empty_cache()
    return Shortage(kept, yielded)


def too_small(doing: str, shortage: Shortage, remedy: str) -> ResourceError:
    """Build the error for work that cannot be made any smaller.

    Args:
        doing: What was being done, such as ``fit with a batch size of 1``.
        shortage: How the last attempt ended, with its error.
        remedy: What the user can do.
    """
    error = shortage.error
    requested = None if error is None else requested_bytes(error)
    device = _device(error)
    available = _available_bytes(device)
    asked = "it does not say how much" if requested is None else f"it asked for {byte_size(requested)}"
    there = "how much is free is unknown" if available is None else f"{byte_size(available)} are free"
    failure = ResourceError(
        f"memory is short on {device} for {doing}: {asked}, {there}; {remedy}",
        requested_bytes=requested,
        available_bytes=available,
        device=device,
    )
    failure.__cause__ = error
    return failure


def count_of(name: str, value: Any) -> int:
    """Return ``value`` as a whole number of at least 1.

    Raises:
        SettingsError: If it is none.
    """
    count = whole_number(value, 1)
    if count is None:
        raise SettingsError(f"{name} is {value!r}: give a whole number, 1 or more")
    return count


def refuse_later_work(fn: Any) -> None:
    """Refuse what does its work only after it was called, out of reach of a new attempt.

    Raises:
        TypeError: If ``fn`` is a coroutine or generator function, or cannot be called.
    """
    if not callable(fn):
        raise TypeError(f"a {type(fn).__name__} cannot be called: pass a function")
    # Only the outermost: what a plain function wraps, it may well run to its end.
    for function in functions(fn)[:1]:
        if function.__code__.co_flags & _LATER:
            raise TypeError(
                f"{function.__name__} is a coroutine or generator function, which does its work after the "
                "call: pass a plain function"
            )


def _drop_frames(error: BaseException, handled: BaseException | None) -> None:
    """Take the tracebacks off ``error`` and those it came from, but not off what the caller is handling."""
    spared = {id(one) for one in exceptions_in([handled])}
    for one in exceptions_in([error]):
        if id(one) not in spared:
            BaseException.with_traceback(one, None)


def _device(error: BaseException | None) -> str:
    if isinstance(error, ResourceError):
        return error.device
    text = "" if error is None else message_of(error)
    found = accelerator()
    if found is None or isinstance(error, MemoryError) or "DefaultCPUAllocator" in text:
        return "cpu"
    named = _INDEX.search(text)
    return f"{found.kind}:{named[1] if named else found.current_index()}"


def _available_bytes(device: str) -> int | None:
    if device == "cpu":
        import psutil

        return int(psutil.virtual_memory().available)
    found = accelerator()
    kind, _, index = device.partition(":")
    there = found.free_and_total_bytes(int(index or 0)) if found is not None and found.kind == kind else None
    return None if there is None else there[0]
