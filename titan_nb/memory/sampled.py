"""Resident memory of this process where its peak cannot be had exactly."""

from __future__ import annotations

from titan_nb.memory.host_peak import HostPeak
from titan_nb.records import DeviceMemory

__all__ = ["PERIOD_SECONDS", "Sampled"]

PERIOD_SECONDS = 0.010
"""How often resident memory is read while a window is open: well under what a person calls short."""


class Sampled:
    """One window of sampled resident memory; what rises and falls between two samples is missed.

    Not thread-safe: the caller holds a lock.

    Args:
        host: Where resident memory is read.
    """

    def __init__(self, host: HostPeak) -> None:
        self._host = host
        self._samples = 0
        self._finished = False
        level = host.resident()
        self._before_bytes = None if level is None else level[0]
        self._peak_bytes = self._before_bytes or 0

    def sample(self) -> None:
        """Look once; after the end this does nothing, for a last job may still be on its way."""
        if self._finished:
            return
        level = self._host.resident()
        if level is not None:
            self._peak_bytes = max(self._peak_bytes, level[0])
            self._samples += 1

    def finish(self) -> DeviceMemory | None:
        """Return the window; None where resident memory is unknown."""
        self._finished = True
        level = self._host.resident()
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
