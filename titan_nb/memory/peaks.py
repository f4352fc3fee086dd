"""The memory of a window: before, at its peak, and after, for the host and each GPU."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping

from titan_nb.memory.fold import Extent, Window
from titan_nb.memory.host_peak import HostPeak
from titan_nb.memory.marks import Marks, marks_of
from titan_nb.memory.sampled import PERIOD_SECONDS, Sampled
from titan_nb.memory.torch_peak import TorchPeak
from titan_nb.records import DeviceMemory, How, MemoryUse

__all__ = ["Every", "Peaks", "Scope"]

Every = Callable[[float, Callable[[], None]], Callable[[], None]]
"""``every(seconds, job) -> cancel``: run ``job`` again and again until ``cancel`` is called."""


class Peaks:
    """Opens scopes, each of which measures memory from its opening to its close.

    Peaks are exact where a mark can be reset: scopes may nest and overlap in any order and from any thread.
    The host's mark is reset only by scopes that allow it; the others are sampled and leave it alone.
    In a forked child every scope is empty, and nothing is read or written.

    Args:
        every: Runs the sampling jobs; without it a sampled peak is the larger of start and end.
        marks: The marks to use instead of this process's own.
    """

    def __init__(self, every: Every | None = None, *, marks: Marks | None = None) -> None:
        self._every = every
        self._marks = marks_of(os.getpid()) if marks is None else marks

    @property
    def process_peak_bytes(self) -> int | None:
        """The most resident memory this process ever had; None when unknown.

        Once a scope has reset the mark, ``resource.getrusage().ru_maxrss`` says it no longer.
        """
        return self._marks.locked(lambda: self._marks.host.process_peak_bytes, None)

    @property
    def failures(self) -> Mapping[str, str]:
        """The last failure of each counter that ever failed, by the counter's name."""
        folds = {HostPeak.source: self._marks.host_fold, TorchPeak.source: self._marks.torch_fold}
        found = {source: fold.failure for source, fold in folds.items() if fold.failure}
        return {**self._marks.failures, **found}

    def open(self, exact_host: bool = True) -> Scope:
        """Begin a scope.

        Args:
            exact_host: Reset this process's own high-water mark for an exact peak; False samples instead.
        """
        self._marks.users.add(self)
        return Scope(self._marks, exact_host, self._every)

    def close(self) -> None:
        """Close the kept files. Scopes still open end as usual, and a later scope opens the files again."""
        self._marks.users.discard(self)
        self._marks.locked(self._marks.host.close, None)


class Scope:
    """One window over all devices; made by `Peaks.open`."""

    def __init__(self, marks: Marks, exact_host: bool, every: Every | None) -> None:
        self._marks = marks
        self._thread = threading.get_ident()
        self._number = next(marks.numbers)
        self._shared = False
        self._torch: Window | None = None
        self._host: Window | None = None
        self._cancel: Callable[[], None] | None = None
        self._use: MemoryUse | None = None
        self._sampled = marks.locked(lambda: self._begin(exact_host), None)
        if self._sampled is not None and every is not None:
            self._start_sampling(self._sampled, every)

    def close(self) -> MemoryUse:
        """End the scope and return what it saw; later calls return the same.

        A device whose counter failed is absent; so is every device after a fork.
        """
        if self._use is None:
            if self._cancel is not None and not self._marks.inherited:
                try:
                    self._cancel()
                except Exception as error:
                    self._marks.sampling_failed(error)
            self._use = self._marks.locked(self._end, MemoryUse({}))
        return self._use

    def _begin(self, exact_host: bool) -> Sampled | None:
        """Take part in the marks; return the sampled window where the host has no exact one."""
        marks = self._marks
        self._share(other for other in marks.scopes if other._thread != self._thread)
        marks.scopes.add(self)
        self._torch = marks.torch_fold.open()
        # Last, so that our own allocations lie before the host's window.
        if exact_host and marks.host.resettable:
            self._host = marks.host_fold.open()
            return None
        return Sampled(marks.host)

    def _end(self) -> MemoryUse:
        if self._use is not None:  # Another thread closed it first.
            return self._use
        marks = self._marks
        # Same thread, opened within this scope and still open: neither is inside the other.
        self._share(
            other for other in marks.scopes if other._thread == self._thread and other._number > self._number
        )
        devices: dict[str, DeviceMemory] = {}
        if self._host is not None:
            self._add(devices, marks.host_fold.close(self._host), HostPeak.source)
        elif self._sampled is not None:
            sampled = self._sampled.finish()
            if sampled is not None:
                devices[marks.host.key] = sampled
        if self._torch is not None:
            self._add(devices, marks.torch_fold.close(self._torch), TorchPeak.source)
        marks.scopes.discard(self)
        if not marks.users:
            marks.host.close()
        self._use = MemoryUse(devices)
        return self._use

    def _share(self, others: Iterable[Scope]) -> None:
        for other in others:
            self._shared = other._shared = True

    def _add(self, devices: dict[str, DeviceMemory], extents: Mapping[str, Extent], source: str) -> None:
        how: How = "shared window" if self._shared else "exact"
        for key, extent in extents.items():
            devices[key] = DeviceMemory(*extent, how=how, source=source)

    def _start_sampling(self, sampled: Sampled, every: Every) -> None:
        marks = self._marks
        # Weak, so that a scope that is dropped without a close is not sampled for ever.
        reference = weakref.ref(sampled)

        def look() -> None:
            open_window = reference()
            if open_window is None:
                cancel()
            else:
                marks.locked(open_window.sample, None)

        try:
            cancel = self._cancel = every(PERIOD_SECONDS, look)
        except Exception as error:
            marks.sampling_failed(error)
