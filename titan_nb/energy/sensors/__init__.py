"""One device each, behind one Protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from titan_nb.records import Energy

__all__ = ["Counter", "Reading", "Sensor"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What a sensor said at one moment.

    Attributes:
        at: The middle of the read on ``time.perf_counter``, in seconds.
        value: What was read: joules for a counter; what a model is made of (its sensor says which) otherwise.
        extra: Further values that the same sensor needs to turn two readings into energy.
        slack_seconds: Half the time that the read took: the value holds at a moment within ``at`` plus or
            minus this.
    """

    at: float
    value: float
    extra: tuple[float, ...] = ()
    slack_seconds: float = 0.0


class Sensor(Protocol):
    """A counter or a model of one device's energy.

    Attributes:
        key: Device key, such as ``gpu:<UUID>``.
        name: The device for people, such as ``NVIDIA H100``.
        source: The counter or the model, for the report.
        blocking: True when a read may block: then it is read on the sampler's thread only.
        counter: True for a counter, which knows all energy since it was started; False for a model.
        refresh_seconds: How often it must be read while a window is open so that it loses nothing; None
            when two readings are enough.
    """

    key: str
    name: str
    source: str
    blocking: bool
    counter: bool
    refresh_seconds: float | None

    def read(self) -> Reading:
        """Read the device.

        Raises:
            SensorError: If it cannot be read; the message says why.
        """
        ...

    def energy(self, begin: Reading, end: Reading, started: float, ended: float) -> Energy:
        """Return the energy of the window from ``started`` to ``ended`` (seconds on ``time.perf_counter``).

        The two readings may lie a little before or after the window's edges; the interval allows for that.
        """
        ...

    def close(self) -> None:
        """Give back what the sensor holds."""
        ...


class Counter(Protocol):
    """A counter of one device's energy, which moves in ticks; the meter learns when.

    Attributes:
        key: Device key, such as ``gpu:<UUID>``.
        name: The device for people, such as ``NVIDIA H100``.
        source: The counter, for the report.
        blocking: Always True: it is read on the sampler's thread only.
        counter: Always True.
        refresh_seconds: The longest time between two reads while a window is open, so that nothing is lost;
            None when two readings are enough.
        duty: The part of the time in which the counter looks at the device's power, above 0 and at most 1;
            1 for one that integrates all of it.
        limit_watts: The most that the device draws, in watts; `MAX_WATTS` where it does not tell.
    """

    key: str
    name: str
    source: str
    blocking: bool
    counter: bool
    refresh_seconds: float | None
    duty: float
    limit_watts: float

    def read(self) -> Reading:
        """Read the counter, in joules since some moment before the first read.

        Raises:
            SensorError: If it cannot be read; the message says why.
        """
        ...

    def watts_now(self) -> float | None:
        """Return the power that the device draws now, in watts, or None where it does not tell."""
        ...

    def ours(self, whole: Energy, begin: Reading, end: Reading) -> Energy:
        """Return what of the ``whole`` device's energy is charged to this process.

        Args:
            whole: The energy of the device in the window.
            begin: The last reading before the window.
            end: The first reading after it.
        """
        ...

    def close(self) -> None:
        """Give back what the sensor holds."""
        ...
