"""What the user's own code reads of a GPU's peaks, whatever titan resets in between.

torch keeps one set of peaks per device. titan resets it at the boundaries of its windows; before that it
notes the peaks here. Two functions of ``torch._C`` for each way to an allocator read and reset them, and
everything else goes through these: ``max_memory_allocated``, ``max_memory_reserved``, ``memory_stats``,
``memory_summary``, ``reset_peak_memory_stats``. So only they are replaced, by functions that raise each
peak to the highest one since the user's own reset, and that let the open windows see a peak before the user
resets it. Names that were imported earlier and functions that others have patched work as before, and
signatures, docstrings and errors stay torch's own.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from titan_nb.memory.accelerator import Accelerator, Gateway

__all__ = ["UserPeaks", "own_look", "raised"]

_own = threading.local()


@contextlib.contextmanager
def own_look() -> Iterator[None]:
    """Let this thread read and reset the allocator's own peaks instead of the user's."""
    before = getattr(_own, "looking", False)
    try:
        _own.looking = True
        yield
    finally:
        _own.looking = before


class UserPeaks:
    """The highest peaks of one accelerator's devices since the user's own last reset.

    Attributes:
        before_reset: Called before a reset of the user's reaches the allocator; must not raise.
    """

    def __init__(self) -> None:
        self.before_reset: Callable[[], None] = lambda: None
        self._accelerator: Accelerator | None = None
        self._gateways: list[Gateway] = []
        self._highest: dict[int, Mapping[str, Any]] = {}
        self._replaced: list[tuple[Gateway, Callable[..., Any], Callable[..., Any]]] = []
        self._leaving = False

    def watch(self, accelerator: Accelerator) -> None:
        """See to it that the user's code reads through this object; cheap when it already does.

        Not thread-safe: the caller holds a lock.
        """
        self._leaving = False
        if accelerator is not self._accelerator:
            self._remove()
            self._highest = {}
            self._gateways = accelerator.gateways()
            self._accelerator = accelerator
        for gateway in self._gateways:
            current = getattr(gateway.owner, gateway.name)
            # Somebody else's patch over ours is as good as ours; one that went away with ours is not.
            if not any(current is ours for _, ours, _ in self._replaced):
                self._replace(gateway, current)

    def keep(self, index: int, statistics: Mapping[str, Any]) -> None:
        """Note the peaks in ``statistics``, which are about to be reset."""
        self._highest[index] = raised(statistics, self._highest.get(index, {}))

    def leave(self) -> None:
        """Give torch its functions back, as soon as they would say the same as ours.

        That is at once, or after the user has reset the peaks of every device that titan reset.
        """
        self._leaving = True
        if not self._highest:
            self._remove()

    def _replace(self, gateway: Gateway, original: Callable[..., Any]) -> None:
        make = self._resetting if gateway.resets else self._reading
        ours = make(original)
        # Noted first: an interrupt between the two must not leave one of ours unknown.
        self._replaced.append((gateway, ours, original))
        setattr(gateway.owner, gateway.name, ours)

    def _remove(self) -> None:
        while self._replaced:
            gateway, ours, original = self._replaced.pop()
            # Under somebody else's patch ours stays, and from now on only passes on.
            if getattr(gateway.owner, gateway.name, None) is ours:
                setattr(gateway.owner, gateway.name, original)

    def _reading(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def read(*args: Any, **kwargs: Any) -> Any:
            statistics = original(*args, **kwargs)
            # Looked at after the counter: a window's boundary in between moves peaks from there to here.
            if not self._highest or getattr(_own, "looking", False) or not isinstance(statistics, dict):
                return statistics
            highest = self._highest.get(self._index(args, kwargs))
            return statistics if highest is None else raised(statistics, highest)

        return read

    def _resetting(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def reset(*args: Any, **kwargs: Any) -> Any:
            if getattr(_own, "looking", False):
                return original(*args, **kwargs)
            self.before_reset()
            result = original(*args, **kwargs)
            if self._highest:  # Otherwise it may not even be started, and must not be asked for an index.
                self._highest.pop(self._index(args, kwargs), None)
            if self._leaving and not self._highest:
                self._remove()
            return result

        return reset

    def _index(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
        """Return the device that a call was for; -1 where it cannot be told."""
        device = next(iter((*args, *kwargs.values())), None)
        try:
            return -1 if self._accelerator is None else self._accelerator.index(device)
        except Exception:  # The original took it, so the user's call must end well.
            return -1


def raised(statistics: Mapping[str, Any], highest: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a copy of nested ``statistics`` with each peak at least as high as in ``highest``."""
    copy = dict(statistics)
    for name, value in copy.items():
        other = highest.get(name)
        if type(value) is dict and type(other) is dict:
            copy[name] = raised(value, other)
        elif name == "peak" and type(value) is int and type(other) is int and other > value:
            copy[name] = other
    return copy
