from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from titan_nb.ledger import Totals
from titan_nb.records import Carbon, CellRef, Cost, DeviceMemory, Energy, Gap, MemoryUse, Report
from titan_nb.views import text

Make = Callable[..., Report]
GIB = 2**30
MEASURED = Energy(1700.0, 1670.0, 1730.0, "measured", "a counter")
MODELLED = Energy(138.0, 118.0, 168.0, "modelled", "a model")
BOUNDED = Energy(1.2, 0.0, 3.04, "bounded", "shorter than a tick")
UNKNOWN = Energy.unknown("no sensor")
NONE = MemoryUse({})


def test_line_holds_everything(make: Make) -> None:
    assert text.line(make()) == (
        "cell 7 · 12.3 s · 1.84 kJ (1.79–1.90, measured GPU, modelled CPU) · 0.21 g CO2e (DE 2024) · "
        "GPU peak 6.2 GiB, +1.1 kept · RAM peak 2.1 GiB"
    )


@pytest.mark.parametrize(
    ("changes", "head"),
    [
        ({}, "cell 7"),
        ({"cell": CellRef(3, 12)}, "cell 12"),
        ({"cell": CellRef(3, 0)}, "cell 0"),
        ({"cell": CellRef(3)}, "cell 3"),
        ({"cell": None, "number": 5}, "block 5"),
        ({"label": "fit"}, "cell 7 'fit'"),
        ({"label": "a label that goes on for far too long"}, "cell 7 'a label that goes on fo…'"),
        ({"outcome": "error", "error": "ValueError"}, "cell 7 failed: ValueError"),
        ({"outcome": "error"}, "cell 7 failed"),
        ({"outcome": "interrupted", "error": "KeyboardInterrupt"}, "cell 7 interrupted"),
    ],
)
def test_line_says_which_cell_and_how_it_ended(make: Make, changes: dict[str, Any], head: str) -> None:
    assert text.line(make(**changes)).split(" · ")[0] == head


@pytest.mark.parametrize(
    ("energy", "shown"),
    [
        ({}, "energy and CO2e unknown"),
        ({"cpu:b:pkg0": UNKNOWN}, "energy and CO2e unknown"),
        ({"ram:x": MODELLED}, "140 J (118–168, modelled RAM)"),
        ({"cpu:b:pkg0": MODELLED, "ram:x": MODELLED}, "280 J (236–336, modelled CPU)"),
        ({"gpu:a": MEASURED, "cpu:b:pkg0": MEASURED}, "3.40 kJ (3.34–3.46, measured GPU + CPU)"),
        ({"gpu:a": MEASURED, "gpu:b": MEASURED}, "3.40 kJ (3.34–3.46, measured GPU)"),
        ({"gpu:a": MEASURED, "cpu:b:pkg0": UNKNOWN}, "≥ 1.70 kJ (1.67–1.73, measured GPU), CPU unknown"),
        ({"gpu:a": MEASURED, "gpu:b": UNKNOWN}, "≥ 1.70 kJ (1.67–1.73, measured GPU), 1 of 2 GPUs unknown"),
        (
            {"gpu:a": UNKNOWN, "cpu:b:pkg0": MODELLED, "ram:x": UNKNOWN},
            "≥ 140 J (118–168, modelled CPU), GPU, RAM unknown",
        ),
        ({"gpu:a": BOUNDED}, "≤ 3.1 J (bounded GPU)"),
        ({"gpu:a": BOUNDED, "cpu:b:pkg0": UNKNOWN}, "≤ 3.1 J (bounded GPU), CPU unknown"),
        ({"gpu:a": BOUNDED, "cpu:b:pkg0": MEASURED}, "1.70 kJ (1.67–1.74, bounded GPU, measured CPU)"),
        ({"npu:a": MEASURED}, "1.70 kJ (1.67–1.73, measured npu)"),
        ({"gpu:a": Energy(5.0, 5.0, 5.0, "measured", "c")}, "5.00 J (measured GPU)"),
        ({"gpu:a": Energy(0.0, 0.0, 0.0, "measured", "c")}, "0 J (measured GPU)"),
        ({"gpu:a": Energy(float("nan"), 0.0, 1.0, "measured", "c")}, "energy and CO2e unknown"),
    ],
)
def test_line_grades_the_energy(make: Make, energy: dict[str, Energy], shown: str) -> None:
    assert text.line(make(energy=energy, memory=NONE)).split(" · ")[2] == shown


@pytest.mark.parametrize(
    ("energy", "carbon", "shown"),
    [
        (MEASURED, None, "CO2e unknown"),
        (MEASURED, Carbon(0.2, 0.2, 0.2, 400.0, "DE", "s", 2024), "0.20 g CO2e (DE 2024)"),
        (MEASURED, Carbon(0.2, 0.2, 0.2, 400.0, "eco2ai:DE", "s", None), "0.20 g CO2e (eco2ai:DE)"),
        (MEASURED, Carbon(0.2, 0.2, 0.2, 411.5, None, "given", None), "0.20 g CO2e (411.5 g/kWh)"),
        (BOUNDED, Carbon(0.0001, 0.0, 0.000302, 400.0, "DE", "s", 2024), "≤ 0.31 mg CO2e (DE 2024)"),
    ],
)
def test_line_gives_grams(make: Make, energy: Energy, carbon: Carbon | None, shown: str) -> None:
    assert text.line(make(energy={"gpu:a": energy}, carbon=carbon, memory=NONE)).split(" · ")[3] == shown


def test_grams_of_some_devices_are_a_lower_bound(make: Make) -> None:
    report = make(energy={"gpu:a": MEASURED, "cpu:b:pkg0": UNKNOWN})
    assert "· ≥ 0.21 g CO2e (DE 2024) ·" in text.line(report)


def test_upper_bound_of_some_devices_bounds_no_grams(make: Make) -> None:
    report = make(energy={"gpu:a": BOUNDED, "cpu:b:pkg0": UNKNOWN})
    assert "· CO2e unknown ·" in text.line(report)


@pytest.mark.parametrize(
    ("devices", "shown"),
    [
        ({}, []),
        ({"gpu:a": DeviceMemory(0, 0, 0, "exact", "s")}, []),
        ({"gpu:a": DeviceMemory(GIB, 2 * GIB, GIB, "exact", "s")}, ["GPU peak 2.0 GiB"]),
        (
            {"gpu:a": DeviceMemory(GIB, 2 * GIB, GIB + 2**20, "exact", "s")},
            ["GPU peak 2.0 GiB, +1.0 MiB kept"],
        ),
        ({"gpu:a": DeviceMemory(2 * GIB, 2 * GIB, GIB, "exact", "s")}, ["GPU peak 2.0 GiB, −1.0 kept"]),
        (
            {
                "gpu:a": DeviceMemory(0, 2 * GIB, GIB, "exact", "s"),
                "gpu:b": DeviceMemory(0, 3 * GIB, 0, "exact", "s"),
            },
            ["2 GPUs peak 5.0 GiB, +1.0 kept"],
        ),
        ({"ram:x": DeviceMemory(GIB, 2 * GIB, GIB, "sampled", "s")}, ["RAM peak ≥ 2.0 GiB"]),
    ],
)
def test_line_gives_memory(make: Make, devices: dict[str, DeviceMemory], shown: list[str]) -> None:
    assert text.line(make(memory=MemoryUse(devices))).split(" · ")[4:] == shown


def test_line_closes_with_what_matters_beside_the_figures(make: Make) -> None:
    report = make(
        memory=NONE,
        shared_window=True,
        energy={"gpu:a": Energy(5.0, 5.0, 5.0, "measured", "simulated counter")},
        chat="stored 3 rows under 'demo'",
    )
    assert text.line(report).split(" · ")[-3:] == ["shared window", "simulated", "stored 3 rows under 'demo'"]


def test_line_gives_up_memory_figures_in_order(make: Make) -> None:
    forms = []
    for length in range(80):
        line = text.line(make(label="x" * length or None, chat="y" * length or None))
        memory = [part for part in line.split(" · ")[4:] if not part.startswith("y")]
        if memory not in forms:
            forms.append(memory)
        assert len(line) <= text.WIDTH or not memory
    assert forms == [
        ["GPU peak 6.2 GiB, +1.1 kept", "RAM peak 2.1 GiB"],
        ["GPU peak 6.2 GiB, +1.1 kept"],
        ["GPU peak 6.2 GiB"],
        [],
    ]


def test_description_names_devices_sources_and_notes(make: Make) -> None:
    described = text.describe(make(notes=("a note",), shared_window=True))
    lines = described.splitlines()
    assert lines[0] == text.line(make(shared_window=True))
    assert "started 2025-03-04 10:11:12 UTC, took 12.3 s, CPU time 13.9 s" in lines
    words = [" ".join(line.split()) for line in lines]
    assert "GPU 8f3a1c2d 1.70 kJ 1.67–1.73 measured" in words
    assert "GPU 8f3a1c2d: a counter" in lines
    assert any(line.startswith("RAM (this process)  1.0 GiB  2.1 GiB  1.5 GiB") for line in lines)
    assert "CO2e 0.21 g (0.20–0.22), at 411 g/kWh in DE 2024 (a table)" in lines
    assert "- a note" in lines
    assert lines[-1].startswith("- shared window: ")


def test_description_of_nothing_is_short(make: Make) -> None:
    described = text.describe(make(energy={}, carbon=None, memory=NONE))
    assert described.splitlines()[-1] == "CO2e unknown"
    assert "device" not in described


def test_description_bounds_a_device_shorter_than_a_tick(make: Make) -> None:
    assert "GPU a   ≤ 3.1 J            bounded" in text.describe(make(energy={"gpu:a": BOUNDED}))


def test_unknown_carbon_is_said_once(one_cpu: Report) -> None:
    head, *rest = text.describe(one_cpu).splitlines()
    assert "CO2e unknown" in head
    assert sum("CO2e unknown" in line for line in rest) == 1


def test_empty_table_says_so() -> None:
    assert text.table([]) == "No cell has been tracked yet."


def test_table_fits_a_terminal(session: list[Report], totals: Totals) -> None:
    lines = text.table(session, totals=totals).splitlines()
    assert lines[0] == "6 tracked cells"
    assert max(map(len, lines)) <= 100
    assert lines[2].split() == (
        [
            "cell",
            "label",
            "outcome",
            "time",
            "energy",
            "interval",
            "grade",
            "CO2e",
            "GPU",
            "peak",
            "RAM",
            "peak",
        ]
    )
    assert lines[6].split()[:3] == ["3", "failed", "12.3"]
    assert lines[-2].split()[:3] == ["total", "2", "failed"]
    assert lines[-1].split() == ["gaps", "40", "J", "35–45", "measured"]


def test_wide_table_holds_every_column(session: list[Report], totals: Totals) -> None:
    gap = Gap(1, 2, 3.0, {"gpu:a": Energy(40.0, 35.0, 45.0, "measured", "a counter")})
    table = text.table(session, [gap], totals, max_width=200)
    assert "CPU time" in table
    assert "RAM kept" in table
    assert "7 in 6" in table
    assert table.splitlines()[5].split() == ["gap", "3.00", "s", "40", "J", "35–45", "measured"]


def test_table_with_gaps_ends_with_the_balance(session: list[Report], totals: Totals) -> None:
    key = next(iter(totals.gap_energy))
    gap = Gap(1, 2, 3.0, {key: totals.gap_energy[key]})
    lines = text.table(session, [gap], totals).splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("counter"))
    assert " ".join(lines[start].split()) == "counter cells gaps together"
    assert lines[start + 2].startswith("GPU 8f3a1c2d")
    assert "CPU (this process), RAM (this process)" in " ".join(" ".join(lines[start + 3 :]).split())
    assert "counter  " not in text.table(session, totals=totals)


def test_description_gives_idle_pue_cost_and_budget(make: Make) -> None:
    report = make(
        energy={"gpu:a": Energy(1700.0, 1670.0, 1730.0, "measured", "a counter", 840.0), "ram:x": MODELLED},
        carbon=Carbon(
            0.21, 0.20, 0.22, 411.0, "DE", "a table; times PUE 1.2", 2024, pue=1.2, kind="marginal"
        ),
        cost=Cost(0.0005, 0.00045, 0.00055, "EUR", "1 EUR/kWh, given by the user"),
        budget="stopped: 1.8 kJ of 1 kJ",
    )
    lines = text.describe(report).splitlines()
    words = [" ".join(line.split()) for line in lines]
    assert "device energy interval of which idle grade" in words
    assert "GPU a 1.70 kJ 1.67–1.73 ≈ 840 J measured" in words
    assert "RAM (this process) 140 J 118–168 modelled" in words
    assert "CO2e 0.21 g (0.20–0.22), at 411 g/kWh, marginal in DE 2024 × PUE 1.2 (a table)" in lines
    assert "cost 0.00050 EUR (0.00045–0.00055), at 1 EUR/kWh, given by the user" in lines
    assert "- budget: stopped: 1.8 kJ of 1 kJ" in lines


def test_description_without_them_does_not_name_them(make: Make) -> None:
    described = text.describe(make())
    for word in ("idle", "PUE", "cost", "budget"):
        assert word not in described


def test_bound_is_not_split_into_idle_and_active(make: Make) -> None:
    energy = {"gpu:a": Energy(1.2, 0.0, 3.04, "bounded", "s", 0.7)}
    assert "idle" not in text.describe(make(energy=energy))


@pytest.mark.parametrize(
    ("energy", "currency", "shown"),
    [
        ({"gpu:a": MEASURED}, "EUR", "0.00050 EUR"),
        ({"gpu:a": MEASURED}, None, "cost 0.00050"),
        ({"gpu:a": MEASURED, "gpu:b": UNKNOWN}, "EUR", "≥ 0.00050 EUR"),
        ({"gpu:a": BOUNDED}, "EUR", "≤ 0.00055 EUR"),
    ],
)
def test_line_gives_the_cost(make: Make, energy: dict[str, Energy], currency: str | None, shown: str) -> None:
    cost = Cost(0.0005, 0.00045, 0.00055, currency, "a price")
    assert text.line(make(energy=energy, cost=cost, memory=NONE)).split(" · ")[4:] == [shown]


def test_long_sentences_are_wrapped(make: Make) -> None:
    source = "a counter " * 20
    described = text.describe(
        make(energy={"gpu:a": Energy(5.0, 5.0, 5.0, "measured", source)}, notes=(source,))
    )
    assert max(map(len, described.splitlines()[1:])) <= 100


def test_table_leaves_out_what_says_nothing(one_cpu: Report) -> None:
    titles = text.table([one_cpu]).splitlines()[2].split()
    assert " ".join(titles) == "cell time CPU time energy interval grade CO2e RAM peak RAM kept"


def test_columns_are_aligned(session: list[Report], totals: Totals) -> None:
    header, rule, *rows = text.table(session, totals=totals).splitlines()[2:]
    end = header.index("energy") + len("energy")
    assert all(row[end : end + 2].strip() == "" for row in rows if row[0] != "─")
    assert {row[end - 1] for row in rows if row[0] != "─"} <= {"J", "n"}
    assert len(rule) >= max(map(len, rows))


def test_wide_letters_keep_the_columns(make: Make) -> None:
    plain = text.table([make(label="ab"), make(label="cd")]).splitlines()
    wide = text.table([make(label="训练"), make(label="cd")]).splitlines()
    # Two letters that take two columns each: two spaces fewer.
    assert len(wide[4]) == len(plain[4]) - 2
