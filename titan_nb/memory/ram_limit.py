"""A limit on how much memory of its own this process may hold."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import re
import sys
from collections.abc import Callable
from typing import NamedTuple

from titan_nb.errors import SettingsError
from titan_nb.kept_file import KeptFile
from titan_nb.memory.ceiling import Ceiling, Hold
from titan_nb.memory.host_peak import HostPeak
from titan_nb.memory.openmp import warm_openmp
from titan_nb.memory.peaks import Every
from titan_nb.memory.ram_watch import RamWatch
from titan_nb.memory.sampled import PERIOD_SECONDS
from titan_nb.units import byte_size

__all__ = ["HEAD_ROOM_BYTES", "RamLimit"]

HEAD_ROOM_BYTES = 128 << 20
"""What is left between the interrupt and the refusal: IPython needs it to render and send a traceback."""

_PLATFORM: str = sys.platform
_STATUS_BYTES = 8192  # Much more than the file up to its sizes, except for users in thousands of groups.


class _Own(NamedTuple):
    """This process's own memory: what holds values, and what the kernel counts against RLIMIT_DATA."""

    held_bytes: int
    data_bytes: int


class RamLimit:
    """While it is open, this process holds at most so many bytes of memory of its own, in total.

    Not its own is what it shares with files: libraries and memory-mapped data. Nor is memory counted that
    was reserved before and not used yet; what is reserved meanwhile is, such as 8 MiB for the stack of each
    new thread, because the kernel counts it as well. Code that takes more in small steps is interrupted. On
    Linux the kernel also refuses what would pass the limit by more than `HEAD_ROOM_BYTES` (RLIMIT_DATA), so
    that the code that asked gets its own error, such as `MemoryError`. That limit is the process's: other
    threads are under it as well, and child processes that start meanwhile inherit it for themselves.

    Args:
        limit_bytes: The most that this process may hold.
        every: Runs the look at what is held; see `titan_nb.memory.peaks.Every`.
        interrupt: Interrupts the cell; returns False if this is not the moment. Without it and ``every``
            nothing keeps the head room free, and a cell that fills it in small steps may end the kernel.
        status: Where Linux tells about this process.

    Raises:
        SettingsError: If this process holds more already; then nothing is limited.
    """

    def __init__(
        self,
        limit_bytes: int,
        every: Every | None = None,
        interrupt: Callable[[], bool] | None = None,
        *,
        status: str = "/proc/self/status",
    ) -> None:
        self.limit_bytes = limit_bytes
        self._ceiling = _ceiling_of(os.getpid())
        self._hold: Hold | None = None
        self._host = HostPeak()
        self._status = KeptFile(status, os.O_RDONLY)
        own = self._own()
        self._refuse_below(self._resident() if own is None else own.held_bytes)
        read: Callable[[], int | None] = self._resident
        if own is not None:
            warm_openmp()
            # Read again: the threads' stacks count as data.
            start = self._own() or own
            self._lower(start)
            read = functools.partial(self._held_since, start)
        self._watch = RamWatch(limit_bytes, read, every, interrupt)

    @property
    def in_force(self) -> bool:
        """Whether the limit is kept by any means, or was until the end."""
        return self._hold is not None or not self._watch.fault

    @property
    def interrupted_at_bytes(self) -> int | None:
        """How much was held when the cell was interrupted for it; None if it was not."""
        return self._watch.interrupted_at_bytes

    @property
    def mechanism(self) -> str:
        """How the limit is kept, or why it is not."""
        means = [] if self._watch.fault else [f"checked every {PERIOD_SECONDS * 1000:.0f} ms"]
        if self._hold is not None:
            means.append(f"RLIMIT_DATA {byte_size(HEAD_ROOM_BYTES)} above it")
        fault = f"not in force, RLIMIT_DATA does not work here and {self._watch.fault}"
        return f"RAM limit {byte_size(self.limit_bytes)}: {', '.join(means) or fault}"

    def close(self) -> str | None:
        """End the limit; return what could not be put back, or None. A second time does nothing."""
        self._watch.stop()
        fault = None
        if self._hold is not None:
            try:
                self._ceiling.release(self._hold)
            except (OSError, ValueError) as error:
                fault = f"RLIMIT_DATA could not be put back ({type(error).__name__}: {error})"
        self._status.close()
        self._host.close()
        return fault

    def _refuse_below(self, held_bytes: int | None) -> None:
        if held_bytes is not None and held_bytes > self.limit_bytes:
            self._status.close()
            self._host.close()
            raise SettingsError(
                f"a RAM limit of {byte_size(self.limit_bytes)} is below the {byte_size(held_bytes)} that "
                "this process holds already: give more, or free memory first"
            )

    def _lower(self, own: _Own) -> None:
        """Set the limit, unless the kernel does not keep to it."""
        room = max(0, self.limit_bytes - own.held_bytes) + HEAD_ROOM_BYTES
        with contextlib.suppress(OSError, ValueError, OverflowError):
            hold = self._ceiling.lower(own.data_bytes + room)
            if _refused(room + HEAD_ROOM_BYTES):
                self._hold = hold
            else:
                self._ceiling.release(hold)

    def _held_since(self, start: _Own) -> int | None:
        """Return what is held, with what was taken since ``start`` counted whether it is used yet or not."""
        own = self._own()
        return None if own is None else start.held_bytes + own.data_bytes - start.data_bytes

    def _resident(self) -> int | None:
        level = self._host.resident()
        return None if level is None else level[0]

    def _own(self) -> _Own | None:
        """Read this process's own memory; None where the kernel does not tell."""
        if _PLATFORM != "linux":
            return None
        try:
            text = os.pread(self._status.descriptor(), _STATUS_BYTES, 0)
            anonymous, swapped, data = (_kib(text, name) for name in (b"RssAnon", b"VmSwap", b"VmData"))
        except (OSError, ValueError):
            return None
        return _Own((anonymous + swapped) << 10, data << 10)


def _kib(text: bytes, name: bytes) -> int:
    """Return one size of a status file in KiB.

    Raises:
        ValueError: If it is not there.
    """
    found = re.search(rb"^%s:\s*([0-9]+) kB$" % name, text, re.MULTILINE)
    if found is None:
        raise ValueError(name)
    return int(found[1])


def _refused(size_bytes: int) -> bool:
    """Say whether the kernel refuses memory of that size; sandboxes may take a limit and not keep to it."""
    try:
        mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
    except (OSError, OverflowError):
        return True
    return False


@functools.lru_cache(maxsize=1)
def _ceiling_of(pid: int) -> Ceiling:
    """Return this process's own ceiling; ``pid`` gives a forked child its own."""
    return Ceiling(_soft_limit, _set_soft_limit)


def _soft_limit() -> float:
    import resource

    soft = resource.getrlimit(resource.RLIMIT_DATA)[0]
    return float("inf") if soft == resource.RLIM_INFINITY else soft


def _set_soft_limit(value: float) -> None:
    import resource

    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    soft = resource.RLIM_INFINITY if value == float("inf") else int(value)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
