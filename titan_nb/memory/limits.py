"""What a cell may hold, on the host and on the GPUs, from its beginning to its end."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any

from titan_nb.memory.failures import exceptions_in
from titan_nb.memory.gpu_limit import GpuLimit
from titan_nb.memory.peaks import Every
from titan_nb.memory.ram_limit import RamLimit
from titan_nb.memory.shortage import find_shortage, message_of, of_the_host, requested_bytes
from titan_nb.units import byte_size

__all__ = ["Limit"]

Holders = Callable[[], Sequence[tuple[str, int]]]
"""Returns who holds memory, as names and bytes, the largest first."""

_NAMED = 3

# The slot itself: a class may define an attribute of this name that fails or lies.
_ERRNO: Any = OSError.__dict__["errno"]


class Limit:
    """The limits of one window; made by `open`, and always to be closed.

    They are the process's, so other threads are under them as well, and of several open ones the tightest
    holds. The code that asks for too much gets the error of whoever it asked, as it always does.
    """

    def __init__(self, gpu: GpuLimit | None, ram: RamLimit | None) -> None:
        self._gpu = gpu
        self._ram = ram
        self._pid = os.getpid()

    @classmethod
    def open(
        cls,
        gpu_bytes: int | None,
        ram_bytes: int | None,
        every: Every | None = None,
        interrupt: Callable[[], bool] | None = None,
    ) -> Limit:
        """Begin to keep this process below a limit.

        Args:
            gpu_bytes: The most that it may hold on each GPU, in total; None for no limit.
            ram_bytes: The most memory of its own that it may hold, in total; None for no limit.
            every: Runs jobs again and again; see `titan_nb.memory.peaks.Every`.
            interrupt: Interrupts the window's code as Ctrl-C does, or returns False.

        Raises:
            SettingsError: If more is held already; then nothing is limited.
        """
        gpu = None if gpu_bytes is None else GpuLimit(gpu_bytes, every)
        try:
            ram = None if ram_bytes is None else RamLimit(ram_bytes, every, interrupt)
        except BaseException:
            if gpu is not None:
                gpu.close()
            raise
        return cls(gpu, ram)

    @property
    def mechanism(self) -> str:
        """How each limit is kept, or why it is not; one line for the report."""
        return "; ".join(part.mechanism for part in (self._gpu, self._ram) if part is not None)

    def close(self) -> str | None:
        """End the limits; return what could not be put back, or None. A second time does nothing.

        In a forked child neither does the first: the limits and the locks are the parent's.
        """
        if os.getpid() != self._pid:
            return None
        failed = [part.close() for part in (self._ram, self._gpu) if part is not None]
        return "; ".join(filter(None, failed)) or None

    def explain(self, error: BaseException, holders: Holders | None = None) -> str | None:
        """Return one line on the limit that ``error`` met; None if it has nothing to do with one.

        Args:
            error: What ended the window's code.
            holders: Asked only if there is something to say.
        """
        met = self._met(error)
        if met is None:
            return None
        line = met
        wanted = requested_bytes(error)
        if wanted is not None:
            line += f": {byte_size(wanted)} more was asked for"
        largest = _largest(holders)
        return f"{line}; largest: {largest}" if largest else line

    def _met(self, error: BaseException) -> str | None:
        ram = self._ram
        if ram is not None and ram.interrupted_at_bytes is not None:
            passed, limit = byte_size(ram.interrupted_at_bytes), byte_size(ram.limit_bytes)
            return f"interrupted with {passed} held or reserved, under a RAM limit of {limit}"
        shortage = find_shortage(error)
        if shortage is not None and not of_the_host(shortage):
            gpu = self._gpu
            return (
                f"under a GPU limit of {byte_size(gpu.limit_bytes)}"
                if gpu is not None and gpu.in_force
                else None
            )
        if ram is None or not ram.in_force:
            return None
        met = shortage is not None or any(map(_is_refusal, exceptions_in([error])))
        return f"under a RAM limit of {byte_size(ram.limit_bytes)}" if met else None


def _is_refusal(error: BaseException) -> bool:
    """Say whether the system refused memory in words of its own: for a mapping, a child process, a thread."""
    if issubclass(type(error), OSError):
        return bool(_ERRNO.__get__(error) == errno.ENOMEM)
    return type(error) is RuntimeError and message_of(error) == "can't start new thread"


def _largest(holders: Holders | None) -> str:
    if holders is None:
        return ""
    try:
        found = list(holders())[:_NAMED]
        return ", ".join(f"{name} {byte_size(size)}" for name, size in found)
    except Exception:  # Memory is short: who holds it may be more than can be found out.
        return ""
