"""One device in one window: its readings or its account, or why it is unknown."""

from __future__ import annotations

from typing import Literal

from titan_nb.energy.account import Account
from titan_nb.energy.faults import Faults, checked_energy
from titan_nb.energy.sampler import Ticket
from titan_nb.energy.sensors import Reading, Sensor
from titan_nb.energy.watch import Watch
from titan_nb.records import Energy

__all__ = ["NO_CLOCK", "Counted", "Edge", "Modelled", "charged"]

NO_CLOCK = "the clock failed or went backwards"

Edge = Literal["begin", "end"]


class Modelled:
    """One modelled device in one window: its two readings, or why it is unknown."""

    __slots__ = ("begin", "end", "sensor", "why")

    def __init__(self, sensor: Sensor | None, why: str = "") -> None:
        self.sensor = sensor
        self.begin: Reading | None = None
        self.end: Reading | None = None
        self.why = why

    @property
    def begun(self) -> bool:
        """Whether the reading of the start has come, or will not come."""
        return bool(self.why) or self.begin is not None

    @property
    def ended(self) -> bool:
        """Whether the reading of the end has come, or will not come."""
        return bool(self.why) or self.end is not None

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self.begun and self.ended

    def put(self, edge: Edge, result: Reading | str) -> None:
        """Take in a reading, or why there is none."""
        if isinstance(result, str):
            self.why = self.why or result
        elif edge == "begin":
            self.begin = result
        else:
            self.end = result


class Counted:
    """One counter in one window: its account, and the reads at the edges."""

    __slots__ = ("account", "begin", "end", "watch")

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.account: Account | None = None
        self.begin: Ticket | None = None
        self.end: Ticket | None = None

    @property
    def begun(self) -> bool:
        """Whether the read of the start has come back."""
        return self.begin is None or self.begin.done

    @property
    def ended(self) -> bool:
        """Whether the read of the end has come back, well or not."""
        if self.end is not None and self.end.done:
            return True
        return self.account is None or self.account.answered

    @property
    def final(self) -> bool:
        """Whether the tick after the end has been seen."""
        return self.account is None or self.account.final

    def energy(self, faults: Faults, now: float | None = None) -> Energy:
        """Return what of the device's energy is ours, as far as it is known; see `charged`."""
        if self.account is None:
            return Energy.unknown(NO_CLOCK)
        return charged(self.watch, self.account, faults, now)


def charged(watch: Watch, account: Account, faults: Faults, now: float | None = None) -> Energy:
    """Return what of an account's energy is ours, *unknown* when it cannot be relied on.

    Args:
        watch: The counter.
        account: The account.
        faults: Where warnings go.
        now: Where an account that is still open is taken to end.
    """
    track = watch.track
    seconds = account.ended - account.started
    energy = faults.guard(
        "energy", track.sensor.name, lambda: checked_energy(track.energy(account, now), seconds)
    )
    return Energy.unknown(energy) if isinstance(energy, str) else energy
