"""Make ``titan_nb/carbon/tables/us_states.csv`` from a data file inside a PyPI wheel.

``python scripts/make_us_states.py`` fetches the wheel with pip; ``--wheel PATH`` reads one that is already
there. Either way its SHA-256 is checked, and every figure is copied as the source writes it.
"""

from __future__ import annotations

import json
from pathlib import Path

from wheel_table import Row, WheelTable

__all__ = ["TABLE", "rows"]

TABLE = WheelTable(
    project="codecarbon",
    version="3.3.2",
    tags="py3-none-any",
    sha256="05b31dea9dd26ed1e90947973c9ef20c87d127ea71fc32b4cb55a3ec512b8897",
    member="codecarbon/data/private_infra/2023/usa_emissions.json",
    target="titan_nb/carbon/tables/us_states.csv",
    header="""\
# Annual CO2 equivalent total output emission rate of electricity generation by US state.
# Unit: pounds of CO2 equivalent per MWh, at the power plants (not life cycle). Zones: ISO 3166-2.
# Data: US Environmental Protection Agency, eGRID2023, field STC2ERTA,
#   https://www.epa.gov/egrid/download-data, a work of the US government, in the public domain there.
#   The data file in the wheel names this source, field and year.
# Taken from: {member} in {wheel} (PyPI, MIT)
# SHA-256 of the wheel: {sha256}
# Changes: written as a table, names with capitals, without the country's own row; figures as they stand.
# Made by scripts/make_us_states.py; do not edit by hand.
""",
    columns=("zone", "state", "year", "lb_per_mwh"),
)
SOURCE = {
    "name": "EPA eGRID2023, annual CO2 equivalent total output emission rate",
    "url": "https://www.epa.gov/egrid/download-data",
    "field": "STC2ERTA",
    "year": 2023,
}
COUNTRY = "usa"


def rows(wheel: Path) -> list[Row]:
    """Return the table's rows, sorted by zone, with the source's own spelling of every figure.

    Raises:
        ValueError: If the file is not the wheel named in `TABLE`, or says something else of its source.
    """
    # Figures stay text, so that none is rounded on the way.
    data = json.loads(TABLE.text(wheel), parse_float=str)
    source, unit = data.pop("_source"), data.pop("_unit")
    if source != SOURCE or unit["emissions"] != "lbs/MWh":
        raise ValueError(f"{TABLE.member} names another source or unit: {source}, {unit}")
    del data[COUNTRY]
    return sorted(
        (
            f"US-{row['regionCode']}",
            name.title().replace(" Of ", " of "),
            str(source["year"]),
            row["emissions"],
        )
        for name, row in data.items()
    )


if __name__ == "__main__":
    TABLE.main(rows)
