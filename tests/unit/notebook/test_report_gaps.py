from __future__ import annotations

from collections.abc import Callable

import pytest
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from tests.unit.notebook.shells import run, shown
from titan_nb.records import Energy, Gap


@pytest.fixture
def with_gap(titan: InteractiveShell) -> InteractiveShell:
    """Return a shell with two cells and a gap of a counter between them, whatever this machine has."""
    for label in ("one", "two"):
        run(titan, f"%%titan -q --label {label}\nx = 1")
    first, second = (report.number for report in titan_nb.ledger().reports[-2:])
    energy = {"gpu:GPU-abc": Energy(40.0, 35.0, 45.0, "measured", "a counter")}
    titan_nb.ledger().add_gap(Gap(first, second, 3.0, energy))
    return titan


def as_table(shell: InteractiveShell) -> str:
    (display,) = shown(shell, "%titan report")
    return str(display.data["text/plain"])


def as_text(shell: InteractiveShell) -> str:
    run(shell, "%titan report --format text -o written")
    return str(shell.user_ns["written"])


@pytest.mark.parametrize("write", [as_table, as_text])
def test_gaps_stand_between_the_cells(
    with_gap: InteractiveShell, write: Callable[[InteractiveShell], str]
) -> None:
    lines = write(with_gap).splitlines()
    rows = [n for n, line in enumerate(lines) if line.split()[:3] == ["gap", "3.00", "s"]]
    assert len(rows) == 1
    assert " one " in lines[rows[0] - 1]
    assert " two " in lines[rows[0] + 1]
    assert any(line.startswith("GPU abc") for line in lines[rows[0] :])


def test_gaps_are_no_rows_of_the_exports(with_gap: InteractiveShell) -> None:
    run(with_gap, "%titan report --format csv -o written")
    assert with_gap.user_ns["written"].count("\n") == 3


def test_a_simulated_table_holds_no_gap(with_gap: InteractiveShell) -> None:
    with_gap.run_line_magic("config", "TitanMagics.display = 'simulated'")
    for text in (as_table(with_gap), as_text(with_gap)):
        assert "gap" not in text
        assert "3.00 s" not in text
