"""Memory of a device whose peak cannot be had exactly."""

from __future__ import annotations

from collections.abc import Callable

from titan_nb.records import DeviceMemory

__all__ = ["PERIOD_SECONDS", "Reading", "Sampled"]

PERIOD_SECONDS = 0.010
"""How often memory is read while a window is open: well under what a person calls short."""

Reading = Callable[[], tuple[int, str] | None]
"""Returns what a device holds in bytes and where that was read; None where nobody knows it."""


class Sampled:
    """One window of sampled memory; what rises and falls between two samples is missed.

    Not thread-safe: the caller holds a lock.

    Args:
        read: Reads what the device holds.
        before_bytes: What it held at the start; None to read it now.
    """

    def __init__(self, read: Reading, before_bytes: int | None = None) -> None:
        self._read = read
        self._samples = 0
        self._finished = False
        level = read() if before_bytes is None else (before_bytes, "")
        self._before_bytes = None if level is None else level[0]
        self._peak_bytes = self._before_bytes or 0

    def sample(self) -> None:
        """Look once; after the end this does nothing, for a last job may still be on its way."""
        if self._finished:
            return
        level = self._read()
        if level is not None:
            self._peak_bytes = max(self._peak_bytes, level[0])
            self._samples += 1

    def finish(self) -> DeviceMemory | None:
        """Return the window; None where what the device held is unknown."""
        self._finished = True
        level = self._read()
        if level is None or self._before_bytes is None:
            return None
        after_bytes, name = level
        when = f"every {PERIOD_SECONDS * 1000:.0f} ms" if self._samples else "at start and end"
        return DeviceMemory(
            before_bytes=self._before_bytes,
            peak_bytes=max(self._peak_bytes, after_bytes),
            after_bytes=after_bytes,
            how="sampled",
            source=f"{name} {when}",
        )
