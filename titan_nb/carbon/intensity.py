"""Which carbon intensity holds, and what it makes of the energy: explicit, else the zone's, else unknown.

Nothing is looked up anywhere and nothing is guessed: no address, locale, time zone or cloud region.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from titan_nb.carbon import tables
from titan_nb.errors import SettingsError
from titan_nb.records import Carbon, Energy
from titan_nb.settings import CarbonConfig
from titan_nb.units import grams

__all__ = ["Intensity", "carbon_of", "resolve", "unknown_note", "world_range", "zones"]

_JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True, slots=True)
class Intensity:
    """How much greenhouse gas a kilowatt-hour stands for.

    Attributes:
        grams_per_kwh: Best estimate in g CO2e per kWh.
        low: Lower end of the interval in g CO2e per kWh.
        high: Upper end of the interval in g CO2e per kWh. A yearly mean comes without an interval, and none
            is made up: both ends are the mean, and ``source`` says that hours differ.
        zone: The zone's code, or None when the user gave the intensity.
        source: Where the figure comes from.
        year: The year of the figure, or None when it has none.
    """

    grams_per_kwh: float
    low: float
    high: float
    zone: str | None
    source: str
    year: int | None


def resolve(config: CarbonConfig) -> Intensity | None:
    """Return the intensity that ``config`` asks for, or None when it asks for none (unknown).

    An explicit ``grams_per_kwh`` goes before the zone. A zone is an alpha-2 or alpha-3 code or an English
    name of the country table, or one of eco2ai's table, spelt ``eco2ai:DE`` or ``eco2ai:US/California``;
    all in any case. A blank zone is no zone.

    Raises:
        SettingsError: If there is no such zone, with up to three that may have been meant.
    """
    given = config.grams_per_kwh
    if given is not None:
        return Intensity(given, given, given, None, "given by the user", None)
    if config.zone is None or not config.zone.strip():
        return None
    zone = tables.find(config.zone)
    if zone is None:
        raise SettingsError(_no_zone(config.zone))
    return _of_zone(zone)


def carbon_of(energy: Energy, intensity: Intensity) -> Carbon | None:
    """Return the greenhouse gas of ``energy``, or None when the energy is unknown.

    grams = joules / 3.6e6 J/kWh x g/kWh. Low end is multiplied by low end, and high end by high end.
    """
    if energy.joules is None or energy.low is None or energy.high is None:
        return None
    return Carbon(
        grams=energy.joules / _JOULES_PER_KWH * intensity.grams_per_kwh,
        low=energy.low / _JOULES_PER_KWH * intensity.low,
        high=energy.high / _JOULES_PER_KWH * intensity.high,
        grams_per_kwh=intensity.grams_per_kwh,
        zone=intensity.zone,
        source=intensity.source,
        year=intensity.year,
    )


@functools.cache  # asked for by every cell without a zone
def world_range() -> tuple[Intensity, Intensity]:
    """Return the lowest and the highest intensity of the country table."""
    table = tables.countries()
    return (
        _of_zone(min(table, key=lambda zone: zone.grams_per_kwh)),
        _of_zone(max(table, key=lambda zone: zone.grams_per_kwh)),
    )


def unknown_note(energy: Energy) -> str:
    """Return the line that stands in for grams when no zone is set: the range over the world's grids."""
    cleanest, dirtiest = world_range()
    least, most = carbon_of(energy, cleanest), carbon_of(energy, dirtiest)
    if least is None or most is None:
        return "CO2e unknown: the energy is unknown"
    return (
        f"CO2e unknown: no zone set (between {grams(least.low)} in {least.zone} and "
        f"{grams(most.high)} in {most.zone} over the world's grids); "
        "set one with --zone or %config TitanMagics.zone"
    )


def zones() -> list[tuple[str, str, int, float]]:
    """Return the country table as (zone, country, year, g CO2e per kWh), in order of the zones."""
    return [
        (zone.code, zone.name, zone.year, zone.grams_per_kwh)
        for zone in tables.countries()
        if zone.year is not None
    ]


def _of_zone(zone: tables.Zone) -> Intensity:
    when = "year not stated" if zone.year is None else f"yearly mean {zone.year}"
    value = zone.grams_per_kwh
    return Intensity(value, value, value, zone.code, f"{zone.source}: {when}; hours differ", zone.year)


def _no_zone(name: str) -> str:
    near = [f"{zone.code} ({zone.name})" for zone in tables.near(name)]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    if name.strip().casefold().startswith("eco2ai:"):
        listing = "from titan_nb.carbon.tables import eco2ai; eco2ai()"
    else:
        listing = "titan_nb.zones()"
    return (
        f"no zone {name!r} in the table of grid intensities{hint} "
        f"`{listing}` lists them all; grams_per_kwh sets a figure of your own"
    )
