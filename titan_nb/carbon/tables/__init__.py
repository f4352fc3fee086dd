"""The yearly intensities of the world's grids, read from tables that are never mixed.

*countries*: ``countries.csv`` beside this file, one dated row a country; its header names source and
licence. *us_states*: ``us_states.csv``, likewise, spelt ``US-CA``. *cloud_regions*: ``cloud_regions.csv``
says on which of those zones a cloud region lies, spelt ``aws:eu-west-1``; it has no figures of its own.
*eco2ai*: ``data/carbon_index.csv`` of the installed eco2ai, undated, with regions of Australia, Canada,
Russia and the United States; its zones are spelt ``eco2ai:DE`` and ``eco2ai:US/California``. Only that one
file is read: eco2ai itself is slow to import, and cannot be imported on Python >= 3.12.
"""

from __future__ import annotations

import csv
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from titan_nb.errors import SettingsError

__all__ = ["CLOUDS", "Zone", "by_alias", "cloud_regions", "countries", "eco2ai", "find", "near", "us_states"]

CLOUDS = ("aws", "azure", "gcp")
"""The cloud providers whose regions have a zone."""

_ECO2AI = "eco2ai"
_GRAMS_PER_POUND = 453.59237  # the international avoirdupois pound, by definition

# A file that is missing or not UTF-8, a column that is missing, a row that is short, a figure that is none.
_UNREADABLE = (OSError, KeyError, ValueError, TypeError, AttributeError, csv.Error)


@dataclass(frozen=True, slots=True)
class Zone:
    """One row of a table.

    Attributes:
        code: What it is called in settings and reports: ``DE``, ``eco2ai:US/California``.
        name: Its English name, as the table has it.
        aliases: All it answers to in its own table, in any case: alpha-2, alpha-3, English name.
        year: The year the figure is the mean of; None where the table does not say.
        grams_per_kwh: Intensity in g CO2e per kWh; 0 is a figure like any other.
        source: Which table, from whom, under which licence.
        grid: The zone on which a cloud region lies; empty for all others.
    """

    code: str
    name: str
    aliases: tuple[str, ...]
    year: int | None
    grams_per_kwh: float
    source: str
    grid: str = ""


def _rows(file: str) -> Iterator[dict[str, str]]:
    """Return the rows of a table that ships with titan."""
    from importlib.resources import files

    text = files(__name__).joinpath(file).read_text(encoding="utf-8")
    return iter(csv.DictReader(line for line in text.splitlines() if not line.startswith("#")))


@functools.cache
def countries() -> tuple[Zone, ...]:
    """Return the countries of the table that ships with titan, in order of their codes."""
    return tuple(
        Zone(
            code=row["zone"],
            name=row["country"],
            aliases=(row["zone"], row["alpha_3"], row["country"]),
            year=int(row["year"]),
            grams_per_kwh=float(row["grams_per_kwh"]),
            source="Ember / Our World in Data (CC BY 4.0), from carbontracker 2.4.7",
        )
        for row in _rows("countries.csv")
    )


@functools.cache
def us_states() -> tuple[Zone, ...]:
    """Return the states of the USA and the District of Columbia, in order of their codes."""
    return tuple(
        Zone(
            code=row["zone"],
            name=f"{row['state']}, USA",
            aliases=(row["zone"], f"US-{row['state']}"),
            year=int(row["year"]),
            # lb/MWh is thousandths of a pound per kWh.
            grams_per_kwh=float(row["lb_per_mwh"]) * _GRAMS_PER_POUND / 1000,
            source="US EPA eGRID2023 (public domain), emissions at the plants only, from codecarbon 3.3.2",
        )
        for row in _rows("us_states.csv")
    )


@functools.cache
def cloud_regions() -> tuple[Zone, ...]:
    """Return the cloud regions, each with the figure of the country or state that it lies in."""
    own = by_alias((*countries(), *us_states()))
    return tuple(
        Zone(
            code=f"{row['provider']}:{row['region']}",
            name=f"{row['place']}, on the grid of {zone.code}",
            aliases=(f"{row['provider']}:{row['region']}",),
            year=zone.year,
            grams_per_kwh=zone.grams_per_kwh,
            source=f"the region's zone {zone.code} in {zone.source}",
            grid=zone.code,
        )
        for row in _rows("cloud_regions.csv")
        for zone in (own[_fold(row["zone"])],)
    )


@functools.cache
def eco2ai() -> tuple[Zone, ...]:
    """Return the zones of eco2ai's table, in the order of its file.

    Raises:
        SettingsError: If eco2ai is not installed, or its table is not laid out as in version 0.3.12.
    """
    from importlib import metadata, util

    spec = util.find_spec(_ECO2AI)
    if spec is None or spec.origin is None:
        raise SettingsError(
            "the zones 'eco2ai:...' need the package eco2ai, which is not installed: "
            "pip install eco2ai, or use a zone without 'eco2ai:'"
        )
    path = Path(spec.origin).parent / "data" / "carbon_index.csv"
    try:
        source = f"eco2ai {metadata.version(_ECO2AI)}, carbon_index.csv (Apache-2.0)"
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_eco2ai_zone(row, source) for row in csv.DictReader(file))
    except (*_UNREADABLE, metadata.PackageNotFoundError) as error:
        raise SettingsError(
            f"cannot read eco2ai's table {path} ({type(error).__name__}: {error}): "
            "pip install eco2ai==0.3.12, or use a zone without 'eco2ai:'"
        ) from error


def _eco2ai_zone(row: Mapping[str, str], source: str) -> Zone:
    # Namibia's code NA is an empty field there: whatever wrote the file took it for "not available".
    alpha_2 = row["alpha_2_code"] or {"NAM": "NA"}[row["alpha_3_code"]]
    region = row["region"].strip()
    tail = "" if region == "Whole country" else f"/{region}"
    return Zone(
        code=f"{_ECO2AI}:{alpha_2}{tail}",
        name=f"{row['country']}{tail}",
        aliases=tuple(f"{country}{tail}" for country in (alpha_2, row["alpha_3_code"], row["country"])),
        year=None,
        grams_per_kwh=float(row["Emission intensity, kg/MWh"]),  # 1 kg/MWh is 1 g/kWh
        source=source,
    )


def find(name: str) -> Zone | None:
    """Return the zone called ``name`` in any case, or None; only ``eco2ai:`` leads to eco2ai's table.

    Raises:
        SettingsError: If ``name`` asks for eco2ai's table and that cannot be read.
    """
    table, local = _split(name)
    return _index(table).get(local)


def near(name: str, limit: int = 3) -> list[Zone]:
    """Return up to ``limit`` zones that an unknown ``name`` may have meant, the likeliest first.

    For a plain name that eco2ai's table has, that zone goes first. Then come, in the tables that were asked,
    names with these initials (UK), names that begin so (US/Cal), and close spellings (Germny).

    Raises:
        SettingsError: If ``name`` asks for eco2ai's table and that cannot be read.
    """
    import difflib

    table, local = _split(name)
    spelt: dict[str, list[Zone]] = defaultdict(list)
    initials: dict[str, list[Zone]] = defaultdict(list)
    for zone in _zones(table):
        for alias in zone.aliases:
            spelt[_fold(alias)].append(zone)
        initials["".join(word[0] for word in _fold(zone.name).split())].append(zone)

    def candidates() -> Iterator[Zone]:
        if not table:
            try:
                other = _index(_ECO2AI).get(local)
            except SettingsError:  # no eco2ai here, so nothing of it to suggest
                other = None
            if other is not None:
                yield other
        yield from initials.get(local, ())
        if len(local) > 1:
            yield from (zone for alias, zones in spelt.items() if alias.startswith(local) for zone in zones)
        for alias in difflib.get_close_matches(local, spelt, n=limit):
            yield from spelt[alias]

    return list(dict.fromkeys(candidates()))[:limit]


def _split(name: str) -> tuple[str, str]:
    """Return the table that ``name`` asks for, '' or 'eco2ai', and the folded rest."""
    folded = _fold(name)
    head, colon, local = folded.partition(":")
    return (_ECO2AI, local.strip()) if colon and head.strip() == _ECO2AI else ("", folded)


def _fold(name: str) -> str:
    return name.strip().casefold()


def _zones(table: str) -> tuple[Zone, ...]:
    return eco2ai() if table == _ECO2AI else (*countries(), *us_states(), *cloud_regions())


@functools.cache
def _index(table: str) -> Mapping[str, Zone]:
    return by_alias(_zones(table))


def by_alias(zones: Iterable[Zone]) -> dict[str, Zone]:
    """Return zones by folded alias, without the aliases that more than one zone answers to."""
    found: dict[str, set[Zone]] = defaultdict(set)
    for zone in zones:
        for alias in zone.aliases:
            found[_fold(alias)].add(zone)
    return {alias: owners.pop() for alias, owners in found.items() if len(owners) == 1}
