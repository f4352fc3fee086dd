"""The meter: opens windows over all devices of this machine."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence

from titan_nb.energy.books import Books
from titan_nb.energy.devices import Devices
from titan_nb.energy.faults import Faults
from titan_nb.energy.instruments import Instruments
from titan_nb.energy.probes import Discovery, Finding, Probe, machine_probes
from titan_nb.energy.sampler import Sampler
from titan_nb.energy.window import FORKED, Window

__all__ = ["Meter"]

_STATUS_SECONDS = 5.0


class Meter:
    """Measures energy and CPU time between two moments, without ever delaying, breaking or changing a cell.

    Nothing is searched for, and no thread is started, before the first window. A device that does not answer
    within the longest wait is *unknown* for that window. In a forked child only time is measured.

    Args:
        discover: Finds the sensors, on the sampler's thread; by default this machine's own probes.
        sampler: The thread for what may block; by default one of its own, which `close` stops.
        max_wait_seconds: The longest wait at each end of a window.
        clock: Where the time is from, in seconds.
    """

    def __init__(
        self,
        discover: Callable[[], Discovery] | None = None,
        sampler: Sampler | None = None,
        max_wait_seconds: float = 0.020,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._discover = discover
        self._owns_sampler = sampler is None
        self._sampler = Sampler() if sampler is None else sampler
        self._max_wait_seconds = max_wait_seconds
        self._clock = clock
        self._pid = os.getpid()
        self._faults = Faults()
        self._use = self._instruments()

    def _instruments(self) -> Instruments:
        books = Books(self._faults)
        devices = Devices(self._probes, self._sampler, self._faults, books.lock, self._now)
        return Instruments(
            devices, self._sampler, self._faults, self._now, books, self._max_wait_seconds, self._pid
        )

    def _now(self) -> float:
        """Return the time; NaN when the clock fails."""
        try:
            value: object = self._clock()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            return math.nan
        # From 1e15 s on a float cannot tell one second from the next.
        return float(value) if isinstance(value, (int, float)) and 0 <= value < 1e15 else math.nan

    def _probes(self) -> Sequence[Probe]:
        return machine_probes() if self._discover is None else (Probe("devices", self._discover),)

    @property
    def sampler(self) -> Sampler:
        """The thread on which everything runs that may block."""
        return self._sampler

    def begin(self) -> Window:
        """Open a window."""
        return Window(self._use)

    def status(self) -> list[Finding]:
        """Return what can be measured here, by which means, and what is missing; may take 5 seconds."""
        if os.getpid() != self._pid:
            return [Finding("all devices", "", False, FORKED)]
        return self._use.devices.findings(_STATUS_SECONDS)

    def close(self) -> None:
        """Close the sensors and stop the thread, within 2 seconds; a later window starts afresh."""
        if os.getpid() != self._pid:
            return
        self._use.devices.close()
        if self._owns_sampler:
            self._sampler.stop()
        self._use = self._instruments()
