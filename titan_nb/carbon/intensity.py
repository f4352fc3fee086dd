"""Which carbon intensity holds, and what it makes of the energy: explicit, the zone's, or unknown.

Nothing is guessed: no address, locale or time zone. The network is used only where the user switched a
provider on, and then by `refresh` alone.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from titan_nb.carbon import tables
from titan_nb.carbon.cloud import detect_region
from titan_nb.carbon.provider import Answer, Kind, NullProvider, Provider
from titan_nb.errors import SettingsError
from titan_nb.records import Carbon, Energy
from titan_nb.settings import CarbonConfig
from titan_nb.units import grams

if TYPE_CHECKING:
    from titan_nb.carbon.live import Live

__all__ = [
    "Intensity",
    "carbon_of",
    "refresh",
    "resolve",
    "unknown_note",
    "warning",
    "world_range",
    "zones",
]

_JOULES_PER_KWH = 3.6e6
_AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Intensity:
    """How much greenhouse gas a kilowatt-hour stands for.

    Attributes:
        grams_per_kwh: Best estimate in g CO2e per kWh.
        low: Lower end of the interval in g CO2e per kWh.
        high: Upper end of the interval in g CO2e per kWh. A yearly mean comes without an interval, and none
            is made up: both ends are the mean, and ``source`` says that hours differ.
        zone: The zone's code, or None when the user gave the intensity.
        source: Where the figure comes from; for a provider's also for what time it holds.
        year: The year of the figure, or None when it has none.
        kind: *average* or *marginal*; the two are never mixed, and all that titan has are averages.
    """

    grams_per_kwh: float
    low: float
    high: float
    zone: str | None
    source: str
    year: int | None
    kind: Kind = "average"


def resolve(
    config: CarbonConfig, *, provider: Provider | None = None, live: Live | None = None
) -> Intensity | None:
    """Return the intensity that ``config`` asks for, or None when it is unknown; never uses the network.

    The order: an explicit ``grams_per_kwh``; then, where a provider is switched on and covers the zone, its
    last good answer; then the zone's figure in the tables, which are the rule where no provider is on and
    the stand-in, named as such, where one has not answered yet; else unknown.

    A zone is one of those that `titan_nb.carbon.tables` has; with a provider also one of the provider's own,
    such as ``US-CAL-CISO``. A blank zone is no zone. ``auto`` is the cloud region of this machine.

    Args:
        config: What the user set.
        provider: Whom to ask instead of the one that ``config`` names.
        live: The answers so far; those of this process by default.

    Raises:
        SettingsError: If there is no such zone, with up to three that may have been meant.
    """
    given = config.grams_per_kwh
    if given is not None:
        return Intensity(given, given, given, None, "given by the user", None)
    provider = provider or _switched_on(config)
    zone, grid = _located(config, provider)
    if grid is None:
        return None
    mean = None if zone is None else _of_zone(zone)
    answer = None if config.provider is None and live is None else (live or _live()).last(provider, grid)
    if answer is not None:
        return _of_answer(answer, provider, grid if zone is None else zone.code)
    if mean is None or config.provider is None:
        return mean
    why = "has not answered" if provider.covers(grid) else f"does not know {grid}"
    return replace(mean, source=f"{mean.source}; {provider.name} {why}")


def refresh(config: CarbonConfig, *, provider: Provider | None = None, live: Live | None = None) -> None:
    """Ask the provider that ``config`` switched on, in the background, if its answer is 15 minutes old.

    Returns at once, and does nothing where no provider is on or an explicit intensity makes it needless.

    Raises:
        SettingsError: If there is no such zone.
    """
    if config.provider is None or config.grams_per_kwh is not None:
        return
    provider = provider or _switched_on(config)
    _, grid = _located(config, provider)
    if grid is not None:
        (live or _live()).refresh(provider, grid)


def warning(
    config: CarbonConfig, *, provider: Provider | None = None, live: Live | None = None
) -> str | None:
    """Return one line on why the provider fails and what is used instead; once until it answers again."""
    if config.provider is None or config.grams_per_kwh is not None:
        return None
    provider, live = provider or _switched_on(config), live or _live()
    zone, grid = _located(config, provider)
    line = None if grid is None else live.warning(provider, grid)
    if grid is None or line is None:
        return None
    answer = live.last(provider, grid)
    if answer is not None:
        instead = f"used instead: its answer for {answer.at:%Y-%m-%d %H:%M} UTC"
    elif zone is not None:
        instead = f"used instead: {_of_zone(zone).source}"
    else:
        instead = "the carbon is unknown"
    return f"{line}; {instead}"


def _switched_on(config: CarbonConfig) -> Provider:
    """Return the provider that ``config`` names; they are loaded only where one is named."""
    if config.provider is None:
        return NullProvider()
    from titan_nb.carbon.providers import by_name

    return by_name(config.provider)


def _live() -> Live:
    from titan_nb.carbon.live import default

    return default()


def carbon_of(energy: Energy, intensity: Intensity, pue: float = 1.0) -> Carbon | None:
    """Return the greenhouse gas of ``energy``, or None when the energy is unknown.

    grams = joules / 3.6e6 J/kWh x g/kWh x PUE. Low end is multiplied by low end, and high end by high end.

    Args:
        energy: The energy of the computers.
        intensity: What a kilowatt-hour stands for.
        pue: Power usage effectiveness: what the data centre draws over what its computers draw.
    """
    if energy.joules is None or energy.low is None or energy.high is None:
        return None
    return Carbon(
        grams=energy.joules / _JOULES_PER_KWH * intensity.grams_per_kwh * pue,
        low=energy.low / _JOULES_PER_KWH * intensity.low * pue,
        high=energy.high / _JOULES_PER_KWH * intensity.high * pue,
        grams_per_kwh=intensity.grams_per_kwh,
        zone=intensity.zone,
        source=intensity.source if pue == 1 else f"{intensity.source}; times PUE {pue:g}",
        year=intensity.year,
        pue=pue,
        kind=intensity.kind,
    )


@functools.cache  # asked for by every cell without a zone
def world_range() -> tuple[Intensity, Intensity]:
    """Return the lowest and the highest intensity of the country table."""
    table = tables.countries()
    return (
        _of_zone(min(table, key=lambda zone: zone.grams_per_kwh)),
        _of_zone(max(table, key=lambda zone: zone.grams_per_kwh)),
    )


def unknown_note(energy: Energy, config: CarbonConfig | None = None) -> str:
    """Return the line that stands in for grams when the intensity is unknown.

    Without a zone it is the range over the world's grids, and the cloud region that this machine seems to
    be in, which is offered and not applied.
    """
    config = config or CarbonConfig()
    cleanest, dirtiest = world_range()
    least, most = carbon_of(energy, cleanest, config.pue), carbon_of(energy, dirtiest, config.pue)
    if least is None or most is None:
        return "CO2e unknown: the energy is unknown"
    zone, region = (config.zone or "").strip(), detect_region()
    why, offer = "no zone set", "set one with --zone or %config TitanMagics.zone"
    if zone.casefold() == _AUTO:
        why = f"no figure for {region}" if region else "this machine names no cloud region"
    elif zone:
        why, offer = f"no answer for {zone} yet", "a country as the zone has a yearly mean at hand"
    elif region is not None and tables.find(region) is not None:
        offer += f"; this machine looks like {region}"
    return (
        f"CO2e unknown: {why} (between {grams(least.low)} in {least.zone} and "
        f"{grams(most.high)} in {most.zone} over the world's grids); {offer}"
    )


def zones() -> list[tuple[str, str, int, float]]:
    """Return countries and US states as (zone, name, year, g CO2e per kWh), in order of the zones.

    The figures of the states are those of the plants alone, those of the countries life-cycle ones.
    """
    return sorted(
        (zone.code, zone.name, zone.year, zone.grams_per_kwh)
        for zone in (*tables.countries(), *tables.us_states())
        if zone.year is not None
    )


def _located(config: CarbonConfig, provider: Provider) -> tuple[tables.Zone | None, str | None]:
    """Return the zone of the tables, if any, and the code by which a provider would know the grid, if any.

    Raises:
        SettingsError: If neither the tables nor the provider know the zone.
    """
    name = (config.zone or "").strip()
    auto = name.casefold() == _AUTO
    if auto:
        name = detect_region() or ""
    if not name:
        return None, None
    zone = tables.find(name)
    if zone is not None:
        return zone, zone.grid or zone.code
    if auto:  # a region newer than the table
        return None, None
    # Two letters alone are a country, and those are all in the table.
    if "-" in name and provider.covers(name.upper()):
        return None, name.upper()
    raise SettingsError(_no_zone(name))


def _of_zone(zone: tables.Zone) -> Intensity:
    when = "year not stated" if zone.year is None else f"yearly mean {zone.year}"
    value = zone.grams_per_kwh
    return Intensity(value, value, value, zone.code, f"{zone.source}: {when}; hours differ", zone.year)


def _of_answer(answer: Answer, provider: Provider, zone: str) -> Intensity:
    source = f"{provider.name}, {answer.at:%Y-%m-%d %H:%M} UTC: {answer.says}"
    return Intensity(answer.grams_per_kwh, answer.low, answer.high, zone, source, answer.at.year, answer.kind)


def _no_zone(name: str) -> str:
    near = [f"{zone.code} ({zone.name})" for zone in tables.near(name)]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    folded = name.strip().casefold()
    if folded.startswith("eco2ai:"):
        listing = "from titan_nb.carbon.tables import eco2ai; eco2ai()"
    elif folded.partition(":")[0] in tables.CLOUDS:
        listing = "from titan_nb.carbon.tables import cloud_regions; cloud_regions()"
    else:
        listing = "titan_nb.zones()"
    return (
        f"no zone {name!r} in the table of grid intensities{hint} "
        f"`{listing}` lists them all; grams_per_kwh sets a figure of your own"
    )
