"""One window of the meter: what every device used between its two edges."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from titan_nb.energy.account import NOT_IN_TIME
from titan_nb.energy.books import Overlap, Stretch
from titan_nb.energy.cpu_time import cpu_times
from titan_nb.energy.instruments import Instruments
from titan_nb.energy.probes import Discovery, Probe
from titan_nb.energy.sampler import Ticket
from titan_nb.energy.sensors import Counter, Reading, Sensor
from titan_nb.energy.slots import NO_CLOCK, Counted, Edge, Modelled
from titan_nb.energy.watch import Watch
from titan_nb.records import Energy, Measurement

if TYPE_CHECKING:
    from titan_nb.energy.trace import Trace

__all__ = ["FORKED", "Window"]

FORKED = "not measured in a forked child"
TOO_LATE = "found only after the window had ended"
_HUNG_SECONDS = 0.2
"""A job that has been running this long will not come back within a wait: it is not waited for."""


class Window:
    """A stretch of time that is being measured, or was; made by `Meter.begin`.

    Attributes:
        started: Start in seconds on the meter's clock: after the readings of the start.
        ended: End in seconds: before the readings of the end; None while the window is open.
        gap: The stretch before it, since the last window ended; None for the first one, and while others
            are open.
        tail: Where windows overlap, what the last of them leaves to be counted beside the first one.
        last: Whether no other window was open when it ended.
        overlap: The windows that overlap with it, directly or by others between.
    """

    def __init__(self, instruments: Instruments) -> None:
        self._use = instruments
        self._changed = threading.Condition(threading.Lock())
        self._slots: dict[str, Modelled | Counted] = {}
        self._pending: dict[str, Probe] = {}
        self._reported: Measurement | None = None
        self._late = False
        self._final = False
        self._callback: Callable[[Measurement], None] | None = None
        self._seconds = self._cpu_seconds = 0.0
        self._clock_failed = False
        self.ended: float | None = None
        self.gap: Stretch | None = None
        self.tail: Stretch | None = None
        self.last = False
        self.overlap = Overlap()
        self._opening = True
        if instruments.forked:
            self._cpu_begin = self._cpu_end = cpu_times()
            self.started = instruments.now()
        else:
            instruments.devices.ask()
            with self._changed:
                self._read_begin()
                # From here on it is the user's time, so that what the readings cost is not in it.
                self._cpu_begin = self._cpu_end = cpu_times()
                # With the lock held, so that every step seen later meets the account.
                with instruments.books.lock:
                    self.started = instruments.now()
                    self._open()
        self._started_spare = time.perf_counter()

    def _read_begin(self) -> None:
        known = self._use.devices.enter(self)
        self._pending = {probe.name: probe for probe in known.pending}
        self._slots = {key: Modelled(None, why) for key, why in known.missing.items()}
        for watch in known.watches:
            self._slots[watch.track.sensor.key] = Counted(watch)
        for sensor in (*known.sensors, *(early for probe in known.pending for early in probe.early)):
            self._slots[sensor.key] = Modelled(sensor)
        self._ask("begin")
        self._wait(self._begun)
        # Last, so that what the search itself used is not in it.
        self._look("begin")

    def _open(self) -> None:
        self._opening = False
        if math.isfinite(self.started):
            self.gap = self._use.books.begin(self, self.started)
            for slot in self._slots.values():
                if isinstance(slot, Counted):
                    slot.account = slot.watch.track.open(self.started, self)

    def end(self) -> Measurement:
        """Close the window; return what is known now, within the longest wait.

        A device that has not answered is *unknown*; see `refined` and `settle` for when it does.
        """
        if self._use.forked:
            ended, spare = self._use.now(), time.perf_counter()
            seconds = ended - self.started if ended >= self.started else spare - self._started_spare
            return Measurement(seconds, cpu_times().since(self._cpu_begin), {}, (FORKED,))
        if self.ended is None:
            with self._changed, self._use.books.lock:
                ended, spare = self._use.now(), time.perf_counter()
                self._close(ended)
            self._seconds = ended - self.started
            if self._clock_failed:
                self._seconds = spare - self._started_spare
                self._use.faults.add("clock", f"energy is unknown: {NO_CLOCK}")
            self._cpu_end = cpu_times()
            self._cpu_seconds = self._cpu_end.since(self._cpu_begin)
            self.ended = ended
            self._read_end()
        with self._changed:
            return self._reported or self._build()

    def _close(self, ended: float) -> None:
        self._clock_failed = not 0 <= ended - self.started < math.inf
        # A clock that failed must not leave the window open on the counters.
        edge = self.started if self._clock_failed else ended
        if math.isfinite(self.started):
            self.tail, self.last = self._use.books.end(self, self._use.devices.watches, edge)
        for slot in self._slots.values():
            if isinstance(slot, Counted) and slot.account is not None:
                slot.account.listener = self._advance
                slot.watch.track.close(slot.account, edge)

    def _read_end(self) -> None:
        with self._changed:
            self._look("end")
            self._ask("end")
            self._wait(self._ended)
            self._final = self._settled()
            self._late = not self._final
            self._reported = self._build()

    def refined(self, callback: Callable[[Measurement], None]) -> None:
        """Have ``callback`` called, once, when the counters have ticked and late devices have answered.

        It is called on the sampler's thread, and never when there was nothing to wait for.
        """
        if not self._use.forked:
            with self._changed:
                self._callback = callback
                if self._late and self._final:
                    self._tell()

    def settle(self, timeout: float = 1.0) -> Measurement:
        """Wait at most ``timeout`` seconds for the last ticks and late devices; return what is known."""
        measurement = self.end()
        if self._use.forked:
            return measurement
        self._use.sampler.check()
        with self._changed:
            self._changed.wait_for(lambda: self._final, timeout)
            return self._reported or measurement

    def so_far(self) -> Measurement:
        """Return what an open window has used until now; called on the sampler's thread."""
        if self.ended is not None or self._use.forked:
            return self.end()
        slots, energy = tuple(self._slots.items()), {}
        for _, slot in slots:
            if isinstance(slot, Counted):
                slot.watch.refresh()
        now = self._use.now()
        for key, slot in slots:
            if isinstance(slot, Counted):
                with self._use.books.lock:
                    energy[key] = slot.energy(self._use.faults, now)
            elif slot.sensor is None or slot.begin is None or slot.why:
                energy[key] = Energy.unknown(slot.why or NOT_IN_TIME)
            else:
                reading = self._use.faults.read(slot.sensor)
                energy[key] = (
                    Energy.unknown(reading)
                    if isinstance(reading, str)
                    else self._use.faults.energy(slot.sensor, slot.begin, reading, self.started, now)
                )
        return Measurement(now - self.started, cpu_times().since(self._cpu_begin), energy)

    def models_since(self, earlier: Window) -> dict[str, Energy]:
        """Return the energy of modelled devices from the end of ``earlier`` to the end of this window."""
        energy = {}
        for key, slot in tuple(self._slots.items()):
            before = earlier._slots.get(key)
            if isinstance(slot, Modelled) and isinstance(before, Modelled):
                energy[key] = self._modelled(slot, earlier.ended or earlier.started, before.end)
        return energy

    def cpu_seconds_since(self, earlier: Window) -> float:
        """Return the CPU time from the end of ``earlier`` to the end of this window, in seconds."""
        return self._cpu_end.since(earlier._cpu_end)

    @property
    def final(self) -> bool:
        """Whether the figures of the ended window will not change any more."""
        return self._final

    @property
    def counters(self) -> set[str]:
        """Keys of the devices that have a counter."""
        return {key for key, slot in tuple(self._slots.items()) if isinstance(slot, Counted)}

    def traces(self) -> dict[str, Trace]:
        """Return the power of each counter in the window, by device key."""
        ended = math.inf if self.ended is None else self.ended
        if self._use.forked:
            return {}
        import numpy  # noqa: F401 - before the lock is held, as it takes its time

        with self._use.books.lock:
            return {
                key: slot.watch.track.course(self.started, ended)
                for key, slot in tuple(self._slots.items())
                if isinstance(slot, Counted)
            }

    def found(self, probe: Probe, discovery: Discovery) -> None:
        """Take in what a probe found that had not answered when the window began."""
        with self._changed:
            if self._pending.pop(probe.name, None) is None:
                return
            for early in probe.early:
                if all(early.key != sensor.key for sensor in discovery.sensors):
                    self._slots.pop(early.key, None)
            self._slots.update((key, Modelled(None, why)) for key, why in discovery.missing.items())
            counters = {watch.track.sensor.key: watch for watch in self._use.devices.watches}
            for sensor in discovery.sensors:
                if sensor.key not in self._slots:
                    self._found_one(sensor, counters.get(sensor.key))
        self._advance()

    def _found_one(self, sensor: Sensor | Counter, watch: Watch | None) -> None:
        if self.ended is not None:
            self._slots[sensor.key] = Modelled(None, TOO_LATE)
        elif watch is not None:
            slot = self._slots[sensor.key] = Counted(watch)
            if not self._opening:
                with self._use.books.lock:
                    slot.account = watch.track.open(self.started, self)
            self._ask_counter(slot, "begin")
        else:
            modelled = cast("Sensor", sensor)
            model = self._slots[sensor.key] = Modelled(modelled)
            if modelled.blocking:
                self._ask_model(modelled, model, "begin")
            elif not self._opening:
                model.put("begin", self._use.faults.read(modelled))

    def _look(self, edge: Edge) -> None:
        """Read, here and now, the models that cannot block."""
        for slot in self._slots.values():
            if (
                isinstance(slot, Modelled)
                and slot.sensor is not None
                and not slot.sensor.blocking
                and not slot.why
            ):
                slot.put(edge, self._use.faults.read(slot.sensor))

    def _ask(self, edge: Edge) -> None:
        """Have what may block read on the sampler's thread."""
        for slot in self._slots.values():
            if isinstance(slot, Counted):
                self._ask_counter(slot, edge)
            elif slot.sensor is not None and slot.sensor.blocking and not slot.why:
                self._ask_model(slot.sensor, slot, edge)

    def _ask_counter(self, slot: Counted, edge: Edge) -> None:
        ticket = slot.watch.edge(self._read_came)
        if edge == "begin":
            slot.begin = ticket
        else:
            slot.end = ticket

    def _read_came(self, ticket: Ticket) -> None:
        with self._changed:
            self._changed.notify_all()

    def _ask_model(self, sensor: Sensor, slot: Modelled, edge: Edge) -> None:
        job = functools.partial(self._take, sensor, slot, edge)
        ticket = self._use.devices.submit(sensor, job, functools.partial(self._not_taken, slot))
        if ticket.done and ticket.error is not None:
            slot.put(edge, f"{NOT_IN_TIME}: {ticket.error}")

    def _take(self, sensor: Sensor, slot: Modelled, edge: Edge) -> None:
        missed = edge == "begin" and self.ended is not None
        # One that hung is not read again: it would take the successor's thread as well.
        result = slot.why or (NOT_IN_TIME if missed else self._use.faults.read(sensor))
        with self._changed:
            slot.put(edge, result)
        self._advance()

    def _not_taken(self, slot: Modelled, ticket: Ticket) -> None:
        if ticket.error is not None:
            with self._changed:
                slot.put("end", f"{NOT_IN_TIME}: {ticket.error}")
            self._advance()

    def _wait(self, ready: Callable[[], bool]) -> None:
        if not ready() and self._use.sampler.busy_seconds() < _HUNG_SECONDS:
            self._changed.wait_for(ready, self._use.max_wait_seconds)

    def _begun(self) -> bool:
        """Whether all that is to be waited for at the start has come: what cannot block is read last."""
        return not self._pending and all(
            slot.begun
            for slot in self._slots.values()
            if isinstance(slot, Counted) or slot.sensor is None or slot.sensor.blocking
        )

    def _ended(self) -> bool:
        """Whether the readings of the end have come; the ticks after it are not waited for."""
        return not self._pending and all(slot.ended for slot in self._slots.values())

    def _settled(self) -> bool:
        return not self._pending and all(slot.final for slot in self._slots.values())

    def _advance(self) -> None:
        """Refine the measurement if the last outstanding answer has come."""
        with self._changed:
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

    def _energy(self, slot: Modelled | Counted) -> Energy:
        if self._clock_failed:
            return Energy.unknown(NO_CLOCK)
        if isinstance(slot, Counted):
            with self._use.books.lock:
                return slot.energy(self._use.faults)
        return self._modelled(slot, self.started, slot.begin)

    def _modelled(self, slot: Modelled, started: float, begin: Reading | None) -> Energy:
        if slot.why or slot.sensor is None:
            return Energy.unknown(slot.why)
        ended = self.started if self.ended is None else self.ended
        if begin is None or slot.end is None or begin.at > ended:
            return Energy.unknown(NOT_IN_TIME)
        return self._use.faults.energy(slot.sensor, begin, slot.end, started, ended)
