"""Which sensors are read: what the probes have found so far, less what has hung."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

from titan_nb.energy.faults import Faults
from titan_nb.energy.probes import Discovery, Finding, Probe
from titan_nb.energy.sampler import Sampler, Ticket
from titan_nb.energy.sensors import Counter, Sensor
from titan_nb.energy.track import Track
from titan_nb.energy.watch import Watch

__all__ = ["Devices", "Known"]


class Known(NamedTuple):
    """What is known at one moment.

    Attributes:
        sensors: Models to read.
        watches: Counters that are followed.
        pending: Probes that have not answered yet.
        missing: Devices that are here but cannot be read, by key, and why.
    """

    sensors: tuple[Sensor, ...]
    watches: tuple[Watch, ...]
    pending: tuple[Probe, ...]
    missing: dict[str, str]


class Listener(Protocol):
    """Who was let in while a probe had not answered, and is told what it found."""

    def found(self, probe: Probe, discovery: Discovery) -> None:
        """Take note of what ``probe`` found; called on the sampler's thread as a rule."""
        ...


class Devices:
    """The sensors of one meter.

    The probes are sent to the sampler at the first window. A probe, or a sensor, that does not come back is
    left out from then on, with the reason.

    Args:
        probes: Returns the probes; called once, at the first window.
        sampler: Where they run.
        faults: Where warnings go.
        lock: The meter's lock over what is known of counters.
        now: The meter's clock, in seconds.
    """

    def __init__(
        self,
        probes: Callable[[], Sequence[Probe]],
        sampler: Sampler,
        faults: Faults,
        lock: threading.Lock,
        now: Callable[[], float],
    ) -> None:
        self._probes = probes
        self._sampler = sampler
        self._faults = faults
        self._lock = lock
        self._now = now
        self._changed = threading.Condition()
        self._asked = False
        self._pending: dict[str, Probe] = {}
        self._sensors: tuple[Sensor, ...] = ()
        self._watches: tuple[Watch, ...] = ()
        self._missing: dict[str, str] = {}
        self._findings: list[Finding] = []
        self._searches: dict[str, Ticket] = {}
        # The oldest read of each sensor that has not come back, or the last one.
        self._reads: dict[str, tuple[Sensor, Ticket]] = {}
        self._listeners: list[Listener] = []

    def enter(self, listener: Listener) -> Known:
        """Let a window in, after `ask`: it is told what is known now, and later what pending probes find."""
        self._sampler.check()
        with self._changed:
            self._leave_out_stuck()
            if self._pending:
                self._listeners.append(listener)
            return Known(self._sensors, self._watches, tuple(self._pending.values()), dict(self._missing))

    @property
    def watches(self) -> tuple[Watch, ...]:
        """The counters that are followed."""
        return self._watches

    def ask(self) -> None:
        """Send the probes out, once; and take note of those that can no longer answer."""
        with self._changed:
            probes = () if self._asked else tuple(self._probes())
            self._asked = True
            self._pending.update((probe.name, probe) for probe in probes)
        for probe in probes:
            search = functools.partial(self._search, probe)
            self._searches[probe.name] = self._sampler.submit(search, functools.partial(self._failed, probe))
        if self._pending:
            for probe in tuple(self._pending.values()):
                ticket = self._searches.get(probe.name)
                if ticket is not None and ticket.error is not None:
                    self._failed(probe, ticket)

    def submit(self, sensor: Sensor, job: Callable[[], None], then: Callable[[Ticket], None]) -> Ticket:
        """Have a read of ``sensor`` run on the sampler's thread."""
        ticket = self._sampler.submit(job, then)
        _, oldest = self._reads.get(sensor.key, (sensor, ticket))
        if oldest is ticket or (oldest.done and not oldest.stuck):
            self._reads[sensor.key] = sensor, ticket
        return ticket

    def findings(self, timeout: float) -> list[Finding]:
        """Return what there is to tell; wait at most ``timeout`` seconds for the probes."""
        self.ask()
        with self._changed:
            self._changed.wait_for(lambda: not self._pending, timeout)
        self._sampler.check()
        with self._changed:
            self._leave_out_stuck()
            late = [
                Finding(name, "", False, f"the search did not answer within {timeout:g} s")
                for name in self._pending
            ]
            return [*self._findings, *late]

    def close(self, timeout: float = 1.0) -> None:
        """Close all sensors, on the sampler's thread; wait at most ``timeout`` seconds for that."""
        with self._changed:
            watches, self._watches = self._watches, ()
            sensors: tuple[Sensor | Counter, ...] = self._sensors
            self._sensors = ()
        for watch in watches:
            watch.close()
        sensors += tuple(watch.track.sensor for watch in watches)
        if sensors:
            self._sampler.submit(functools.partial(self._close, sensors)).wait(timeout)

    def _close(self, sensors: tuple[Sensor | Counter, ...]) -> None:
        for sensor in sensors:
            self._faults.guard("read", sensor.name, sensor.close)

    def _search(self, probe: Probe) -> None:
        discovery = probe.run()
        if not isinstance(discovery, Discovery):
            raise TypeError(f"the search for {probe.name} returned {discovery!r:.60}")
        self._found(probe, discovery)

    def _failed(self, probe: Probe, ticket: Ticket) -> None:
        """Give up a probe that raised, or did not come back."""
        if ticket.error is None:
            return
        why = f"the search for {probe.name} failed: {ticket.error}"
        keys = [sensor.key for sensor in probe.early] + ([probe.key] if probe.key else [])
        finding = Finding(probe.name, "", False, why)
        if self._found(probe, Discovery((), (finding,), dict.fromkeys(keys, why))):
            self._faults.add("hung" if ticket.stuck else "read", why)

    def _found(self, probe: Probe, discovery: Discovery) -> bool:
        with self._changed:
            if self._pending.pop(probe.name, None) is None:
                return False  # It was given up before it came back.
            for sensor in discovery.sensors:
                if sensor.counter:
                    track = Track(cast("Counter", sensor))
                    watch = Watch(track, self._lock, self._sampler, self._faults, self._now)
                    self._watches += (watch,)
                else:
                    self._sensors += (cast("Sensor", sensor),)
            self._missing.update(discovery.missing)
            self._findings += discovery.findings
            listeners = tuple(self._listeners)
            if not self._pending:
                self._listeners.clear()
            self._changed.notify_all()
        for listener in listeners:
            listener.found(probe, discovery)
        return True

    def _leave_out_stuck(self) -> None:
        for key, (sensor, ticket) in tuple(self._reads.items()):
            if ticket.stuck:
                del self._reads[key]
                self._sensors = tuple(other for other in self._sensors if other is not sensor)
                self._left_out(sensor, ticket)
        for watch in self._watches:
            hung = watch.hung
            if hung is not None:
                self._watches = tuple(other for other in self._watches if other is not watch)
                why = self._left_out(watch.track.sensor, hung)
                # Not here: who waits for the counter is told, and a lock is held.
                self._sampler.submit(functools.partial(watch.fail, why))

    def _left_out(self, sensor: Sensor | Counter, ticket: Ticket) -> str:
        why = f"{sensor.name} {ticket.error}, so it is left out"
        self._missing[sensor.key] = why
        self._findings.append(Finding(sensor.name, sensor.source, False, why))
        self._faults.add("hung", why)
        return why
