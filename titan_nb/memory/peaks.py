"""The memory of a window: before, at its peak, and after, for the host and each GPU."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable

from titan_nb.memory.fold import Extent, Window
from titan_nb.memory.host_peak import HostPeak
from titan_nb.memory.marks import Marks, marks_of
from titan_nb.memory.sampled import PERIOD_SECONDS, Sampled
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
    def failures(self) -> dict[str, str]:
        """The last failure of each counter that ever failed, by the counter's name."""
        folds = {HostPeak.source: self._marks.host_fold, self._marks.torch.source: self._marks.torch_fold}
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
        """Close the kept files, and let the user's code read torch's peaks directly again; see `UserPeaks`.

        Scopes still open end as usual, and a later scope takes both again.
        """
        self._marks.users.discard(self)
        self._marks.locked(self._marks.release, None)


class Scope:
    """One window over all devices; made by `Peaks.open`."""

    def __init__(self, marks: Marks, exact_host: bool, every: Every | None) -> None:
        self._marks = marks
        self._thread = threading.get_ident()
        self._number = next(marks.numbers)
        self._shared = False
        self._torch: Window | None = None
        self._host: Window | None = None
        self._cancels: list[Callable[[], None]] = []
        self._sampled: dict[str, Sampled] = {}
        self._use: MemoryUse | None = None
        marks.locked(lambda: self._begin(exact_host), None)
        if every is not None:
            for sampled in self._sampled.values():
                self._start_sampling(sampled, every)

    def close(self) -> MemoryUse:
        """End the scope and return what it saw; later calls return the same.

        A device whose counter failed is absent; so is every device after a fork.
        """
        if self._use is None:
            if not self._marks.inherited:  # The sampling is the parent's, which goes on.
                for cancel in self._cancels:
                    self._stop_sampling(cancel)
            self._use = self._marks.locked(self._end, MemoryUse({}))
        return self._use

    def _begin(self, exact_host: bool) -> None:
        """Take part in the marks, and note what must be sampled for want of one."""
        marks = self._marks
        self._share(other for other in marks.scopes if other._thread != self._thread)
        marks.scopes.add(self)
        self._torch = marks.torch_fold.open()
        self._sampled = {key: Sampled(read) for key, read in marks.torch.readings().items()}
        # Last, so that our own allocations lie before the host's window.
        if exact_host and marks.host.resettable:
            self._host = marks.host_fold.open()
        else:
            self._sampled = {marks.host.key: Sampled(marks.host.resident), **self._sampled}

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
            for key, extent in marks.host_fold.close(self._host).items():
                devices[key] = self._exact(extent, HostPeak.source)
        gpus = {} if self._torch is None else marks.torch_fold.close(self._torch)
        if self._torch is not None:
            for key, read in marks.torch.readings().items():
                # One that the user started only in this window held nothing before.
                self._sampled.setdefault(key, Sampled(read, before_bytes=0))
        for key, sampled in self._sampled.items():
            row = sampled.finish()
            if row is not None:
                devices[key] = row
        for key, extent in gpus.items():
            devices[key] = self._exact(extent, marks.torch.source, marks.torch.others_bytes(key, extent))
        marks.scopes.discard(self)
        if not marks.users:
            marks.release()
        self._use = MemoryUse(devices)
        return self._use

    def _share(self, others: Iterable[Scope]) -> None:
        for other in others:
            self._shared = other._shared = True

    def _exact(self, extent: Extent, source: str, others_bytes: int | None = None) -> DeviceMemory:
        how: How = "shared window" if self._shared else "exact"
        before, peak, after, cached = extent
        return DeviceMemory(before, peak, after, how, source, cached, others_bytes)

    def _stop_sampling(self, cancel: Callable[[], None]) -> None:
        try:
            cancel()
        except Exception as error:
            self._marks.sampling_failed(error)

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
            cancel = every(PERIOD_SECONDS, look)
            self._cancels.append(cancel)
        except Exception as error:
            marks.sampling_failed(error)
