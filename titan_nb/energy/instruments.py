"""What the windows of one meter work with."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

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
        clock: Where the time is from, in seconds.
        max_wait_seconds: The longest wait at each end of a window.
        pid: The process that measures; a forked child does not.
    """

    devices: Devices
    sampler: Sampler
    faults: Faults
    clock: Callable[[], float]
    max_wait_seconds: float
    pid: int

    def now(self) -> float:
        """Return the time; NaN when the clock fails."""
        try:
            value: object = self.clock()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            return math.nan
        # From 1e15 s on a float cannot tell one second from the next.
        return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e15 else math.nan

    @property
    def forked(self) -> bool:
        """Whether this is a child forked from the process that measures."""
        return os.getpid() != self.pid
