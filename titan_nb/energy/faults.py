"""What a sensor may say, and the one warning for each way in which it says nonsense."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from titan_nb.energy.bracket import MAX_WATTS
from titan_nb.energy.sensors import Counter, Reading, Sensor
from titan_nb.errors import SensorError
from titan_nb.records import Energy

__all__ = ["Faults", "Kind", "checked_energy", "checked_reading"]

Kind = Literal["read", "value", "energy", "hung", "clock", "callback"]
"""The kinds of fault; each gives at most one warning in the life of a meter."""

T = TypeVar("T")

_MAX_VALUE = 1e15
"""From here on a double steps by more than a tenth, so the difference of two such counters means nothing."""

_GRACE_SECONDS = 1.0
"""A window shorter than a tick of its counter may hold the energy of the whole tick."""


class Faults:
    """The warnings of one meter: the first fault of each kind, for the next measurement to carry."""

    def __init__(self) -> None:
        self._seen: set[Kind] = set()
        self._waiting: list[str] = []

    def add(self, kind: Kind, line: str) -> None:
        """Keep ``line`` if it is the first of its kind."""
        if kind not in self._seen:
            self._seen.add(kind)
            self._waiting.append(line)

    def take(self) -> tuple[str, ...]:
        """Return the warnings that no measurement has carried yet."""
        if not self._waiting:
            return ()
        lines, self._waiting = tuple(self._waiting), []
        return lines

    def read(self, sensor: Sensor | Counter) -> Reading | str:
        """Return a reading that can be relied on, or why there is none."""
        return self.guard("read", sensor.name, lambda: checked_reading(sensor.read()))

    def energy(self, sensor: Sensor, begin: Reading, end: Reading, started: float, ended: float) -> Energy:
        """Return a model's energy between two readings, *unknown* when it cannot be relied on."""

        def compute() -> Energy:
            return checked_energy(sensor.energy(begin, end, started, ended), ended - started)

        energy = self.guard("energy", sensor.name, compute)
        return Energy.unknown(energy) if isinstance(energy, str) else energy

    def guard(self, kind: Kind, name: str, function: Callable[[], T]) -> T | str:
        """Return what ``function`` returns, or why it failed, as text."""
        try:
            return function()
        except (KeyboardInterrupt, SystemExit):
            raise  # These are the user's.
        except SensorError as error:
            why = str(error)
        except BaseException as error:
            # Whatever a driver's binding raises, the user's cell must not see it.
            why = f"{name} failed with {type(error).__name__}: {error}"
        self.add(kind, f"energy of {name} is unknown: {why}")
        return why


def checked_reading(reading: Any) -> Reading:
    """Return ``reading`` if its value can be one.

    Raises:
        SensorError: If it is not a finite number from 0 up to where differences still mean something.
    """
    value: Any = getattr(reading, "value", None)
    if not isinstance(reading, Reading) or not _is_number(value):
        raise SensorError(f"the reading is no number: {value!r:.40}")
    if not (0 <= value <= _MAX_VALUE and math.isfinite(reading.at)):
        raise SensorError(f"the reading makes no sense: {value!r:.40}")
    return reading if type(value) is float else dataclasses.replace(reading, value=float(value))


def _is_number(value: Any) -> bool:
    return type(value) is float or (isinstance(value, numbers.Real) and not isinstance(value, bool))


def checked_energy(energy: Any, seconds: float) -> Energy:
    """Return ``energy`` if it can be true of one device in ``seconds`` seconds.

    Raises:
        SensorError: If it is not finite, in order, and at most what `MAX_WATTS` allows.
    """
    if not isinstance(energy, Energy):
        raise SensorError(f"the energy is no Energy: {energy!r:.40}")
    if energy.joules is None:
        return energy
    if energy.low is None or energy.high is None:
        raise SensorError("the energy has no interval")
    if not 0 <= energy.low <= energy.joules <= energy.high < math.inf:
        raise SensorError(
            f"the energy makes no sense: {energy.low!r:.20} <= {energy.joules!r:.20} <= {energy.high!r:.20}"
        )
    if energy.joules > MAX_WATTS * (seconds + _GRACE_SECONDS):
        raise SensorError(f"{energy.joules:.3g} J in {seconds:.3g} s is more than any device can draw")
    return energy
