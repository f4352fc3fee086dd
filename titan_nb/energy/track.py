"""One counter over the life of a meter: its steps, who gets them, and when to look next."""

from __future__ import annotations

import statistics
from collections import deque

from titan_nb.energy.account import Account
from titan_nb.energy.apportion import apportion
from titan_nb.energy.bracket import OVER_LIMIT
from titan_nb.energy.pace import Pace
from titan_nb.energy.sensors import Counter, Reading
from titan_nb.energy.steps import Step, Steps
from titan_nb.energy.ticks import TickClock
from titan_nb.energy.trace import Trace, TraceRing
from titan_nb.errors import SensorError
from titan_nb.records import Energy

__all__ = ["Track"]

_IDLE_STEPS = 3
"""The idle power is the median of so many last steps outside of windows, as work may end a little late."""


class Track:
    """A counter, the accounts that are open on it or wait for its next tick, and its course over time.

    It is pure bookkeeping: who calls it holds the meter's lock, and does the reading.

    Args:
        sensor: The counter.
    """

    def __init__(self, sensor: Counter) -> None:
        self.sensor = sensor
        self.clock = TickClock()
        self.trace = TraceRing()
        self._steps = Steps(self.clock)
        self._pace = Pace(self.clock)
        self._accounts: list[Account] = []
        self._idle: deque[float] = deque(maxlen=_IDLE_STEPS)
        self._watts_before: float | None = None
        self._counted = 0.0
        self._at_edge = False

    @property
    def idle_watts(self) -> float | None:
        """The power outside of windows, in watts; None while it is unknown."""
        return statistics.median(self._idle) if self._idle else self._watts_before

    @property
    def wants_watts(self) -> bool:
        """Whether the device's own word on its power is needed: nothing else is known, and nobody works."""
        return self.idle_watts is None and not any(account.works for account in self._accounts)

    def told_watts(self, watts: float | None) -> None:
        """Take in what the device itself says of its power while nobody works."""
        self._watts_before = watts

    def edge(self) -> None:
        """Take note that a window is about to begin or has just ended: the next tick is wanted."""
        self._at_edge = True
        self._pace.reset()

    def fresh(self, now: float) -> bool:
        """Say whether the counter cannot have moved since the last reading, as its next tick is to come."""
        last = self._steps.last
        expected = None if last is None else self.clock.expect(last.at)
        return expected is not None and now < expected.at - expected.sigma

    def open(self, started: float, owner: object, *, works: bool = True) -> Account:
        """Open an account from ``started`` on.

        Args:
            started: Start in seconds.
            owner: Who will close it; when that is gone without having done so, the account goes too.
            works: True for a window, False for a gap.
        """
        account = Account(started, self._steps.last, self.sensor.duty, owner, works=works)
        self._accounts.append(account)
        return account

    def close(self, account: Account, ended: float) -> None:
        """End an account; it is final after the next tick."""
        account.close(ended, known=self.fresh(ended))

    def take(self, reading: Reading | str, now: float) -> tuple[list[Account], str]:
        """Take in a reading, or why there is none.

        Args:
            reading: What the sensor said, or why it failed.
            now: The time, in seconds.

        Returns:
            The accounts that are final by it; and what is wrong with the counter, or nothing. When it was
            reset nothing is known of what was open, which is given up.
        """
        trouble = ""
        try:
            if isinstance(reading, Reading):
                for account in self._accounts:
                    account.read(reading)
                step = self._steps.add(reading)
                self._pace.looked(now, step)
                if step is not None:
                    self._share(step)
            else:
                self._pace.looked(now, None)
        except SensorError as error:
            trouble = str(error)
            self._idle.clear()
            return self.fail(trouble), trouble
        for account in self._accounts:
            if now > account.ended + self._pace.patience:
                account.expire(reading if isinstance(reading, str) else "")
        return self._settled(), trouble

    def fail(self, why: str) -> list[Account]:
        """Give up all accounts, as the sensor is left out; return them."""
        for account in self._accounts:
            account.fail(why)
        return self._settled()

    def _settled(self) -> list[Account]:
        done = [account for account in self._accounts if account.final]
        self._accounts = [account for account in self._accounts if not (account.final or account.orphaned)]
        return done

    def _share(self, step: Step) -> None:
        spans = [account.span for account in self._accounts]
        # A tick of a part-time counter stands for more time than it has looked at.
        most = self.sensor.limit_watts * OVER_LIMIT / self.sensor.duty
        shares = apportion(step.begin.at, step.end.at, step.joules, spans, self.idle_watts, most)
        alone = True
        for account, share in zip(self._accounts, shares, strict=True):
            if account.works and step.end.latest > account.started and step.begin.earliest < account.ended:
                alone = False
            account.add(step, share)
        self._counted += step.joules
        self.trace.add(step.end.at, self._counted)
        if alone and step.seconds > 0.5 * (self.clock.period or 0.0):
            self._idle.append(step.joules / step.seconds)

    def energy(self, account: Account, now: float | None = None) -> Energy:
        """Return what of an account's energy is ours, as far as it is known.

        Args:
            account: The account.
            now: Where one that is still open is taken to end.
        """
        whole = account.whole(self.sensor, self._steps.tick, self.idle_watts, now)
        begin, end = account.begin, account.end or self._steps.last
        if whole.joules is None or begin is None or end is None:
            return whole
        return self.sensor.ours(whole, begin, end)

    def next_look(self, now: float) -> float:
        """Return after how many seconds the counter is to be looked at again."""
        open_since = [one.started for one in self._accounts if one.works and one.ended > now]
        wanted = self._at_edge or any(not one.seen_first_tick or one.ended <= now for one in self._accounts)
        self._at_edge = False
        return self._pace.delay(
            now,
            wanted=wanted,
            open_since=min(open_since, default=None),
            at_most=self.sensor.refresh_seconds,
        )

    def course(self, started: float, ended: float) -> Trace:
        """Return the power over a stretch of time."""
        return self.trace.between(started, ended)
