from __future__ import annotations

from titan_nb.ledger import Totals
from titan_nb.records import Energy, Gap
from titan_nb.views import balance

GPU = Energy(100.0, 100.0, 100.0, "measured", "s")
IDLE = Energy(20.0, 20.0, 20.0, "measured", "s")
MODEL = Energy(5.0, 4.0, 6.0, "modelled", "s")


def test_cells_and_gaps_add_up_by_counter() -> None:
    totals = Totals(
        energy={"gpu:GPU-a": GPU, "gpu:GPU-b": IDLE}, gap_energy={"gpu:GPU-a": IDLE, "gpu:GPU-b": GPU}
    )
    assert balance.rows([Gap(1, 2, 1.0, totals.gap_energy)], totals) == [
        ("GPU a", "100 J", "20.0 J", "120 J"),
        ("GPU b", "20.0 J", "100 J", "120 J"),
    ]


def test_what_is_unknown_makes_a_lower_bound() -> None:
    totals = Totals(
        energy={"gpu:a": GPU, "gpu:b": GPU},
        gap_energy={"gpu:a": IDLE, "gpu:b": IDLE, "gpu:c": IDLE},
        unknown={"gpu:a": 1},
    )
    gaps = [Gap(1, 2, 1.0, {"gpu:b": Energy.unknown("lost")})]
    assert balance.rows(gaps, totals) == [
        ("GPU a", "≥ 100 J", "20.0 J", "≥ 120 J"),
        ("GPU b", "100 J", "≥ 20.0 J", "≥ 120 J"),
        ("GPU c", "unknown", "20.0 J", "≥ 20.0 J"),
    ]


def test_without_gaps_or_totals_there_is_none() -> None:
    totals = Totals(energy={"gpu:a": GPU}, gap_energy={"gpu:a": IDLE})
    assert balance.rows([], totals) == []
    assert balance.rows([Gap(1, 2, 1.0)], None) == []
    assert balance.rows([Gap(1, 2, 1.0)], Totals(energy={"ram:x": MODEL})) == []


def test_models_are_left_out_by_name() -> None:
    (alone,) = balance.notes(Totals(energy={"gpu:a": GPU}))
    assert "modelled" not in alone
    (one,) = balance.notes(Totals(energy={"gpu:a": GPU, "ram:x": MODEL}))
    assert "RAM (this process) is modelled" in one
    (two,) = balance.notes(
        Totals(energy={"cpu-process:x": MODEL, "ram:x": MODEL, "gpu:b": Energy.unknown("w")})
    )
    assert "CPU (this process), RAM (this process) are modelled" in two
