from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest

from titan_nb.records import Carbon, CellRef, Cost, DeviceMemory, Energy, MemoryUse, Report
from titan_nb.views.table import COLUMNS, row, rows, to_csv, to_json

Make = Callable[..., Report]


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_row_has_every_column_in_order(session: list[Report]) -> None:
    for values in rows(session):
        assert tuple(values) == COLUMNS
        assert all(value is None or isinstance(value, (str, int, float, bool)) for value in values.values())


def test_row_holds_the_figures(make: Make) -> None:
    values = row(make(label="fit", parent=3, shared_window=True))
    assert values["number"] == 7
    assert values["cell"] == 7
    assert values["label"] == "fit"
    assert values["seconds"] == 12.34
    assert (values["energy_low_joules"], values["energy_joules"], values["energy_high_joules"]) == (
        1790.0,
        1840.0,
        1900.0,
    )
    assert values["energy_grade"] == "modelled"
    assert values["energy_unknown"] == ""
    assert values["co2e_grams"] == 0.21
    assert (values["zone"], values["carbon_year"], values["grams_per_kwh"]) == ("DE", 2024, 411.0)
    assert values["gpu_peak_bytes"] == int(6.2 * 2**30)
    assert values["ram_kept_bytes"] == 2**29
    assert values["parent"] == 3
    assert values["shared_window"] is True


def test_row_adds_up_gpus_and_names_the_unknown(make: Make) -> None:
    memory = MemoryUse({f"gpu:{n}": DeviceMemory(1, 10 * n, 1 + n, "exact", "s") for n in (1, 2)})
    energy = {"gpu:1": Energy.unknown("w"), "cpu:b:0": Energy(1.0, 1.0, 1.0, "measured", "s")}
    values = row(make(memory=memory, energy={**energy, "ram:x": Energy.unknown("w")}))
    assert values["gpu_peak_bytes"] == 30
    assert values["gpu_kept_bytes"] == 3
    assert values["ram_peak_bytes"] is None
    assert values["energy_joules"] == 1.0
    assert values["energy_unknown"] == "gpu:1, ram:x"


def test_row_holds_idle_pue_and_cost(make: Make) -> None:
    energy = {
        "gpu:1": Energy(10.0, 9.0, 11.0, "measured", "s", 4.0),
        "ram:x": Energy(1.0, 1.0, 1.0, "modelled", "s"),
    }
    carbon = Carbon(0.1, 0.1, 0.1, 400.0, "DE", "s", 2024, pue=1.2)
    values = row(make(energy=energy, carbon=carbon, cost=Cost(0.5, 0.4, 0.6, "EUR", "a price")))
    assert values["energy_idle_joules"] == 4.0
    assert (values["pue"], values["carbon_kind"]) == (1.2, "average")
    assert (values["cost_low"], values["cost"], values["cost_high"]) == (0.4, 0.5, 0.6)
    assert (values["cost_currency"], values["cost_source"]) == ("EUR", "a price")
    without = row(make(carbon=None))
    assert {without[name] for name in ("energy_idle_joules", "pue", "cost", "cost_currency")} == {None}


def test_row_outside_a_cell_with_nothing_known(make: Make) -> None:
    values = row(make(cell=None, carbon=None, energy={}, memory=MemoryUse({})))
    empty = [name for name, value in values.items() if value is None]
    assert set(empty) >= {"cell", "execution_count", "energy_joules", "co2e_grams", "zone", "gpu_peak_bytes"}
    assert values["energy_grade"] == "unknown"


def test_csv_has_one_line_a_report(session: list[Report]) -> None:
    lines = read(to_csv(session))
    assert [line["number"] for line in lines] == ["1", "2", "3", "4", "5", "6", "7"]
    assert lines[1]["label"] == "fit the model"
    assert lines[2]["error"] == "ValueError"
    assert lines[5]["energy_joules"] == ""
    assert float(lines[0]["energy_joules"]) == 1840.0


def test_csv_of_nothing_is_the_header() -> None:
    assert to_csv([]) == ",".join(COLUMNS) + "\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_csv_defuses_formulas(make: Make, start: str) -> None:
    label = f"{start}HYPERLINK('http://evil.example')"
    text = to_csv([make(label=label, outcome="error", error=label)])
    line = next(csv.DictReader(io.StringIO(text, newline="")))
    shown = "'" + label.replace("\r", "\n")
    assert line["label"] == shown
    assert line["error"] == shown


@pytest.mark.parametrize("label", ['say "hi", twice', "two\nlines", "a, b; c", "'quoted'", "训练"])
def test_csv_keeps_awkward_text(make: Make, label: str) -> None:
    assert read(to_csv([make(label=label)]))[0]["label"] == label


def test_csv_leaves_numbers_alone(make: Make) -> None:
    memory = MemoryUse({"ram:x": DeviceMemory(10, 10, 4, "exact", "s")})
    assert read(to_csv([make(memory=memory)]))[0]["ram_kept_bytes"] == "-6"


def test_csv_has_no_nul_and_no_nan(make: Make) -> None:
    line = read(to_csv([make(label="a\0b\ud800", seconds=float("nan"))]))[0]
    assert line["label"] == "ab?"
    assert line["seconds"] == ""


def test_json_reads_back(session: list[Report]) -> None:
    assert [Report.from_dict(data) for data in json.loads(to_json(session))] == session


def test_json_is_strict(make: Make) -> None:
    text = to_json([make(seconds=float("inf"), label="\ud800", cell=CellRef(1))])
    data = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert data[0]["seconds"] is None
    assert data[0]["label"] == "?"
