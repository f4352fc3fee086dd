"""The one frozen object that says how a cell is tracked."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from titan_nb.errors import SettingsError

__all__ = ["CarbonConfig", "Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CarbonConfig:
    """How energy becomes grams of CO2 equivalent.

    Attributes:
        zone: Country whose grid is used: its ISO 3166-1 code of two or three letters or its English name,
            in any case, or a zone of the second table such as ``eco2ai:US/California``; None for unknown.
        grams_per_kwh: An explicit intensity in g CO2e per kWh; it goes before ``zone``.
    """

    zone: str | None = None
    grams_per_kwh: float | None = None

    def __post_init__(self) -> None:
        _check_text("zone", self.zone)
        given = self.grams_per_kwh
        number = isinstance(given, (int, float)) and not isinstance(given, bool)
        if given is not None and not (number and math.isfinite(given) and 0 <= given <= 5000):
            raise SettingsError(
                f"grams_per_kwh is {given!r}: give a number of grams of CO2e per kWh from 0 to 5000"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one cell is tracked.

    Attributes:
        label: The user's own name for the cell.
        quiet: Measure, and show nothing.
        chat: Chat id under which the cell's last value is stored; None to store nothing.
        carbon: How energy becomes grams.
        exact_host_peak: Reset this process's own high-water mark (VmHWM) for an exact peak. It lowers what
            ``resource.getrusage().ru_maxrss`` says; turn it off to sample the peak instead.
    """

    label: str | None = None
    quiet: bool = False
    chat: str | None = None
    carbon: CarbonConfig = field(default_factory=CarbonConfig)
    exact_host_peak: bool = True

    def __post_init__(self) -> None:
        _check_text("label", self.label)
        _check_text("chat", self.chat)

    def replace(self, **changes: object) -> Settings:
        """Return a copy with ``changes``."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]


def _check_text(name: str, value: object) -> None:
    if not isinstance(value, (str, type(None))):
        raise SettingsError(f"{name} is {value!r}: give a text")
