"""What the windows of one meter work with."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from titan_nb.energy.books import Books
from titan_nb.energy.devices import Devices
from titan_nb.energy.faults import Faults
from titan_nb.energy.sampler import Sampler

__all__ = ["Instruments"]


@dataclass(frozen=True, slots=True)
class Instruments:
    """What the windows of one meter work with.

    Attributes:
        devices: The sensors.
        sampler: The thread for what may block.
        faults: Where warnings go.
        now: Where the time is from, in seconds; NaN when it fails.
        books: Which time belongs to windows and which to gaps.
        max_wait_seconds: The longest wait at each end of a window.
        pid: The process that measures; a forked child does not.
    """

    devices: Devices
    sampler: Sampler
    faults: Faults
    now: Callable[[], float]
    books: Books
    max_wait_seconds: float
    pid: int

    @property
    def forked(self) -> bool:
        """Whether this is a child forked from the process that measures."""
        return os.getpid() != self.pid
