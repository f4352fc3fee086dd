"""A look every few milliseconds at what this process holds, and an interrupt when it is too much."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from titan_nb.memory.peaks import Every
from titan_nb.memory.sampled import PERIOD_SECONDS

__all__ = ["RamWatch"]


class RamWatch:
    """Interrupts a cell once this process holds more than a limit; a single large request may pass it first.

    Args:
        limit_bytes: The most that may be held.
        read: Returns what is held in bytes; None when unknown.
        every: Runs the look; see `titan_nb.memory.peaks.Every`.
        interrupt: Interrupts the cell; returns False if this is not the moment, and is then asked again.

    Attributes:
        interrupted_at_bytes: What was held when the cell was interrupted; None if it was not.
        fault: Why there is no watch; empty while there is one.
    """

    def __init__(
        self,
        limit_bytes: int,
        read: Callable[[], int | None],
        every: Every | None,
        interrupt: Callable[[], bool] | None,
    ) -> None:
        self._limit_bytes = limit_bytes
        self._read = read
        self._interrupt = interrupt
        self._cancel: Callable[[], None] | None = None
        self.interrupted_at_bytes: int | None = None
        self.fault = ""
        if every is None or interrupt is None:
            self.fault = "nothing can interrupt the code"
        elif read() is None:
            self.fault = "what is held is unknown"
        else:
            try:
                self._cancel = every(PERIOD_SECONDS, self._look)
            except Exception as error:
                self.fault = f"{type(error).__name__}: {error}"

    def stop(self) -> None:
        """Look no more."""
        self._interrupt = None
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            with contextlib.suppress(Exception):  # The job does nothing any more.
                cancel()

    def _look(self) -> None:
        interrupt = self._interrupt  # Read once: the cell may end in another thread.
        held_bytes = None if interrupt is None else self._read()
        if interrupt is None or held_bytes is None or held_bytes <= self._limit_bytes:
            return
        self.interrupted_at_bytes = held_bytes  # First, for the cell may end before the call does.
        if interrupt():
            self._interrupt = None
        else:
            self.interrupted_at_bytes = None
