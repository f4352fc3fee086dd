"""The scripts that make the package's tables, imported as Python runs them: with their folder on the path."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path
from types import ModuleType

import pytest

__all__ = ["committed", "load"]

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def load(name: str) -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        return importlib.import_module(name)


def committed(path: Path) -> tuple[str, list[tuple[str, ...]]]:
    """Return the comment lines of a table's file and, from the names of the columns on, its rows."""
    lines = path.read_text("utf-8").splitlines()
    comments = [line for line in lines if line.startswith("#")]
    return "\n".join(comments), [tuple(row) for row in csv.reader(lines[len(comments) :])]
