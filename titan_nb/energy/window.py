"""One window of the meter: from two rounds of readings to one measurement."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable
from typing import Literal

from titan_nb.energy.cpu_time import cpu_times
from titan_nb.energy.discover import Discovery, Probe
from titan_nb.energy.instruments import Instruments
from titan_nb.energy.sampler import Ticket
from titan_nb.energy.sensors import Reading, Sensor
from titan_nb.records import Energy, Measurement

__all__ = ["FORKED", "Window"]

FORKED = "not measured in a forked child"
NOT_IN_TIME = "not read in time"
TOO_LATE = "found only after the window had ended"

_HUNG_SECONDS = 0.2
"""A job that has been running this long will not come back within a wait: it is not waited for."""

Edge = Literal["begin", "end"]


class _Slot:
    """One device in one window: its two readings, or why it is unknown."""

    __slots__ = ("begin", "end", "sensor", "why")

    def __init__(self, sensor: Sensor | None, why: str = "") -> None:
        self.sensor = sensor
        self.begin: Reading | None = None
        self.end: Reading | None = None
        self.why = why

    @property
    def begun(self) -> bool:
        return bool(self.why) or self.begin is not None

    @property
    def settled(self) -> bool:
        return self.begun and (bool(self.why) or self.end is not None)

    def put(self, edge: Edge, result: Reading | str) -> None:
        if isinstance(result, str):
            self.why = self.why or result
        elif edge == "begin":
            self.begin = result
        else:
            self.end = result


class Window:
    """A stretch of time that is being measured, or was; made by `Meter.begin`.

    Attributes:
        started: Start in seconds on the meter's clock: after the readings of the start.
        ended: End in seconds: before the readings of the end; None while the window is open.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._use = instruments
        self._changed = threading.Condition(threading.Lock())
        self._slots: dict[str, _Slot] = {}
        self._pending: dict[str, Probe] = {}
        self._reported: Measurement | None = None
        self._late = False
        self._final = False
        self._callback: Callable[[Measurement], None] | None = None
        self._seconds = self._cpu_seconds = 0.0
        self._clock_failed = False
        self.ended: float | None = None
        self._opening = True
        if not instruments.forked:
            self._read_begin()
        # From here on it is the user's time, so that what the readings cost is not in it.
        self._cpu_begin = cpu_times()
        self.started = instruments.now()
        self._started_spare = time.perf_counter()

    def _read_begin(self) -> None:
        self._use.devices.ask()
        with self._changed:
            known = self._use.devices.enter(self)
            self._pending = {probe.name: probe for probe in known.pending}
            self._slots = {key: _Slot(None, why) for key, why in known.missing.items()}
            for sensor in (*known.sensors, *(early for probe in known.pending for early in probe.early)):
                self._slots[sensor.key] = _Slot(sensor)
            self._ask("begin")
            self._wait(self._begun)
            # Last, so that what the search itself used is not in it.
            self._look("begin")
            self._opening = False

    def end(self) -> Measurement:
        """Close the window; return what is known now, within the longest wait.

        A device that has not answered is *unknown*; see `refined` and `settle` for when it does.
        """
        if self._use.forked:
            ended, spare = self._use.now(), time.perf_counter()
            seconds = ended - self.started if ended >= self.started else spare - self._started_spare
            return Measurement(seconds, cpu_times().since(self._cpu_begin), {}, (FORKED,))
        if self.ended is None:
            ended, spare = self._use.now(), time.perf_counter()
            self._seconds = ended - self.started
            self._clock_failed = not 0 <= self._seconds < math.inf
            if self._clock_failed:
                self._seconds = spare - self._started_spare
                self._use.faults.add("clock", "energy is unknown: the clock failed or went backwards")
            self._cpu_seconds = cpu_times().since(self._cpu_begin)
            self.ended = ended
            self._use.devices.leave()
            self._read_end()
        with self._changed:
            return self._reported or self._build()

    def _read_end(self) -> None:
        with self._changed:
            self._look("end")
            self._ask("end")
            self._wait(self._settled)
            self._final = self._settled()
            self._late = not self._final
            self._reported = self._build()

    def refined(self, callback: Callable[[Measurement], None]) -> None:
        """Have ``callback`` called, once, when devices that had not answered at the end have done so.

        It is called on the sampler's thread, and never when all had answered in time.
        """
        if not self._use.forked:
            with self._changed:
                self._callback = callback
                if self._late and self._final:
                    self._tell()

    def settle(self, timeout: float = 1.0) -> Measurement:
        """Wait at most ``timeout`` seconds for the devices that had not answered; return what is known."""
        measurement = self.end()
        if self._use.forked:
            return measurement
        self._use.sampler.check()
        with self._changed:
            self._changed.wait_for(lambda: self._final, timeout)
            return self._reported or measurement

    def gap_to(self, later: Window) -> dict[str, Energy]:
        """Return the energy from the end of this window to the start of ``later``, by counters only."""
        if self._use.forked or self.ended is None or not self.ended <= later.started:
            return {}
        with self._changed:
            mine = dict(self._slots)
        with later._changed:
            theirs = dict(later._slots)
        gap = {}
        for key, slot in mine.items():
            sensor = slot.sensor
            if sensor is None or not sensor.counter or key not in theirs:
                continue
            end, begin = slot.end, theirs[key].begin
            if end is None or begin is None:
                gap[key] = Energy.unknown(slot.why or theirs[key].why or NOT_IN_TIME)
            else:
                gap[key] = self._use.faults.energy(sensor, end, begin, self.ended, later.started)
        return gap

    def found(self, probe: Probe, discovery: Discovery) -> None:
        """Take in what a probe found that had not answered when the window began."""
        with self._changed:
            if self._pending.pop(probe.name, None) is None:
                return
            for early in probe.early:
                if all(early.key != sensor.key for sensor in discovery.sensors):
                    self._slots.pop(early.key, None)
            for sensor in discovery.sensors:
                if sensor.key not in self._slots:
                    slot = self._slots[sensor.key] = _Slot(sensor, "" if self.ended is None else TOO_LATE)
                    if self.ended is None and sensor.blocking:
                        self._ask_one(sensor, slot, "begin")
                    elif self.ended is None and not self._opening:
                        slot.put("begin", self._use.faults.read(sensor))
            self._slots.update((key, _Slot(None, why)) for key, why in discovery.missing.items())
            self._advance()

    def _look(self, edge: Edge) -> None:
        """Read, here and now, the sensors that cannot block."""
        for slot in self._slots.values():
            if slot.sensor is not None and not slot.sensor.blocking and not slot.why:
                slot.put(edge, self._use.faults.read(slot.sensor))

    def _ask(self, edge: Edge) -> None:
        """Have the sensors that may block read on the sampler's thread."""
        for slot in self._slots.values():
            if slot.sensor is not None and slot.sensor.blocking and not slot.why:
                self._ask_one(slot.sensor, slot, edge)

    def _ask_one(self, sensor: Sensor, slot: _Slot, edge: Edge) -> None:
        job = functools.partial(self._take, sensor, slot, edge)
        ticket = self._use.devices.submit(sensor, job, functools.partial(self._not_taken, slot))
        if ticket.done and ticket.error is not None:
            slot.put(edge, f"{NOT_IN_TIME}: {ticket.error}")

    def _take(self, sensor: Sensor, slot: _Slot, edge: Edge) -> None:
        missed = edge == "begin" and self.ended is not None
        result = NOT_IN_TIME if missed else self._use.faults.read(sensor)
        with self._changed:
            slot.put(edge, result)
            self._advance()

    def _not_taken(self, slot: _Slot, ticket: Ticket) -> None:
        if ticket.error is not None:
            with self._changed:
                slot.put("end", f"{NOT_IN_TIME}: {ticket.error}")
                self._advance()

    def _wait(self, ready: Callable[[], bool]) -> None:
        if not ready() and self._use.sampler.busy_seconds() < _HUNG_SECONDS:
            self._changed.wait_for(ready, self._use.max_wait_seconds)

    def _begun(self) -> bool:
        """Whether all that is to be waited for at the start has come: what cannot block is read last."""
        slots = self._slots.values()
        return not self._pending and all(s.begun for s in slots if s.sensor is None or s.sensor.blocking)

    def _settled(self) -> bool:
        return not self._pending and all(slot.settled for slot in self._slots.values())

    def _advance(self) -> None:
        """Refine the measurement if the last outstanding answer has come."""
        if self._late and not self._final and self._settled():
            self._final = True
            self._reported = self._build()
            self._tell()
        self._changed.notify_all()

    def _tell(self) -> None:
        callback, self._callback = self._callback, None
        measurement = self._reported
        if callback is not None and measurement is not None:
            # As a job of its own, so that no lock is held, and it is on the sampler's thread in any case.
            tell = functools.partial(callback, measurement)
            self._use.sampler.submit(
                lambda: self._use.faults.guard("callback", "a refined measurement", tell)
            )

    def _build(self) -> Measurement:
        early = {sensor.key for probe in self._pending.values() for sensor in probe.early}
        energy = {
            key: Energy.unknown(NOT_IN_TIME) if key in early else self._energy(slot)
            for key, slot in self._slots.items()
        }
        for probe in self._pending.values():
            if probe.key:
                energy[probe.key] = Energy.unknown(NOT_IN_TIME)
        # A refined measurement may never be seen, so new warnings wait for the next window.
        warnings = self._use.faults.take() if self._reported is None else self._reported.warnings
        return Measurement(self._seconds, self._cpu_seconds, energy, warnings)

    def _energy(self, slot: _Slot) -> Energy:
        if self._clock_failed:
            return Energy.unknown("the clock failed or went backwards")
        if slot.why or slot.sensor is None:
            return Energy.unknown(slot.why)
        ended = self.started if self.ended is None else self.ended
        if slot.begin is None or slot.end is None or slot.begin.at > ended:
            return Energy.unknown(NOT_IN_TIME)
        return self._use.faults.energy(slot.sensor, slot.begin, slot.end, self.started, ended)
