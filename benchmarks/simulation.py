"""A counter on a simulated clock, and titan's own looks at it: ten thousand cells in seconds.

Everything but the clock is the real thing: `titan_nb.energy.track.Track` decides when to look, learns the
ticks, and hands out the joules; `FakeSensor` knows the truth.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from titan_nb.energy import FakeSensor, Reading
from titan_nb.energy.account import Account
from titan_nb.energy.track import Track
from titan_nb.records import Energy

__all__ = ["Cell", "Machine", "Simulation", "drawn_machine"]

READ_SECONDS = (5e-5, 2e-4)
"""How long a read takes, from and to."""

WAKE_SECONDS = (2e-5, 2e-4)
"""How late the sampler's thread wakes up, from and to."""

BEGIN_SECONDS = 2e-5
"""From the read at the start of a cell to its first statement, and from its last one to the next read."""


@dataclass(frozen=True)
class Machine:
    """A simulated device.

    Attributes:
        tick_seconds: Period of its counter.
        jitter_seconds: By how much ticks come early or late, at most.
        duty: The part of the time in which the counter looks.
        idle_watts: Power between cells.
        busy_watts: Power in a cell.
    """

    tick_seconds: float = 0.1
    jitter_seconds: float = 0.0
    duty: float = 1.0
    idle_watts: float = 70.0
    busy_watts: float = 700.0


def drawn_machine(source: random.Random, duty: float) -> Machine:
    """Return a machine with a tick of 15 to 120 ms, some jitter, and any idle and busy power."""
    tick = source.uniform(0.015, 0.120)
    return Machine(
        tick, tick * source.uniform(0.001, 0.05), duty, source.uniform(20, 120), source.uniform(150, 700)
    )


@dataclass(frozen=True)
class Cell:
    """One simulated cell, or gap.

    Attributes:
        true_joules: What the device used.
        energy: What titan says once it is settled.
        first: What titan said at once.
        late_seconds: How long after the end the figure was settled.
        looks: How often the counter was looked at, from the start until then.
    """

    true_joules: float
    energy: Energy
    first: Energy
    late_seconds: float
    looks: int


class Simulation:
    """A device that draws its idle power until a cell runs.

    Args:
        machine: The device.
        source: Where chance comes from.
    """

    def __init__(self, machine: Machine, source: random.Random) -> None:
        self.now = 1000.0
        self.looks = 0
        self.machine = machine
        self._source = source
        self.sensor = FakeSensor(
            watts=machine.idle_watts,
            clock=lambda: self.now,
            tick_seconds=machine.tick_seconds,
            tick_phase_seconds=source.uniform(0, machine.tick_seconds),
            jitter_seconds=machine.jitter_seconds,
            seed=source.randrange(2**31),
            duty=machine.duty,
            limit_watts=700.0,
        )
        self.track = Track(self.sensor)
        self.track.trace.prepare()
        self._next: float | None = None
        self._gap: Account | None = None
        # A first look, as when the device is found; it was idle before.
        self.now += 0.3
        self.track.told_watts(machine.idle_watts)
        self._look()

    def wait(self, seconds: float) -> None:
        """Let time pass, with the looks that fall into it."""
        until = self.now + seconds
        while self._next is not None and self._next < until:
            self.now = self._next
            self._look()
        self.now = max(self.now, until)

    def begin(self) -> Account:
        """Begin a cell; the device goes to work."""
        self.track.edge()
        self._look()
        self.now += BEGIN_SECONDS
        if self._gap is not None:
            self.track.close(self._gap, self.now)
        account = self.track.open(self.now, self)
        self.sensor.watts = self.machine.busy_watts
        return account

    def end(self, account: Account) -> Account:
        """End a cell; the device is idle from now on. Returns the gap that begins."""
        self.sensor.watts = self.machine.idle_watts
        self.track.close(account, self.now)
        self._gap = self.track.open(self.now, self, works=False)
        self.now += BEGIN_SECONDS
        self.track.edge()
        self._look()
        return self._gap

    def settle(self, account: Account) -> None:
        """Look until the account is final."""
        while not account.final:
            self.now = max(self.now, self._next or self.now)
            self._look()

    def cell(self, seconds: float) -> Cell:
        """Run one cell and settle it."""
        looks, started = self.looks, self.begin()
        self.wait(seconds)
        self.end(started)
        first, ended = self.track.energy(started), self.now
        self.settle(started)
        return Cell(
            self.sensor.true_joules(started.started, started.ended),
            self.track.energy(started),
            first,
            self.now - ended,
            self.looks - looks,
        )

    def _look(self) -> None:
        began = self.now
        length = self._source.uniform(*READ_SECONDS)
        # The value is that of some moment within the read.
        self.now = began + length * self._source.random()
        value = self.sensor.read().value
        self.now = began + length
        self.looks += 1
        _, trouble = self.track.take(Reading(began + length / 2, value, (), length / 2), self.now)
        if trouble:
            raise RuntimeError(trouble)
        self._next = self.now + self.track.next_look(self.now) + self._source.uniform(*WAKE_SECONDS)
