from __future__ import annotations

from collections.abc import Callable

from titan_nb.ledger import Totals
from titan_nb.records import Carbon, Energy, Gap, MemoryUse, Report
from titan_nb.views.session import session_table, totals_line

Make = Callable[..., Report]


def column(reports: list[Report], title: str, **given: object) -> list[str]:
    table = session_table(reports, **given)  # type: ignore[arg-type]
    return [cells[table.titles.index(title)] for cells in (*table.body, *table.foot)]


def test_signs_say_what_a_sum_is_worth(session: list[Report]) -> None:
    assert column(session, "energy") == [
        "1.84 kJ",
        "1.84 kJ",
        "≤ 3.1 J",
        "1.84 kJ",
        "≥ 1.70 kJ",
        "unknown",
        "1.84 kJ",
    ]
    assert column(session, "grade")[2:6] == ["bounded", "modelled", "measured", ""]
    assert column(session, "CO2e")[2:6] == ["≤ 0.30 mg", "unknown", "≥ 0.21 g", "unknown"]


def test_upper_bound_of_some_devices_is_unknown(make: Make) -> None:
    energy = {"gpu:a": Energy(1.0, 0.0, 3.0, "bounded", "s"), "cpu:b:0": Energy.unknown("w")}
    report = make(energy=energy)
    assert column([report], "energy") == ["unknown"]
    assert column([report], "CO2e") == ["unknown"]


def test_short_cell_does_not_hide_the_others_in_the_total(make: Make) -> None:
    short = make(energy={"gpu:a": Energy(1.0, 0.0, 3.0, "bounded", "s"), "cpu:b:0": Energy.unknown("w")})
    long = make(
        energy={"gpu:a": Energy(1700.0, 1670.0, 1730.0, "measured", "s"), "cpu:b:0": Energy.unknown("w")}
    )
    totals = Totals().with_report(short).with_report(long)
    assert column([short, long], "energy", totals=totals) == ["unknown", "≥ 1.70 kJ", "≥ 1.70 kJ"]


def test_nested_windows_name_their_parent(session: list[Report]) -> None:
    assert column(session, "#")[5:] == ["6", "7 in 6"]
    assert column(session, "cell")[5:] == ["6", "–"]


def test_gap_stands_after_its_report(make: Make) -> None:
    energy = {"gpu:a": Energy(40.0, 35.0, 45.0, "measured", "s"), "cpu:b:0": Energy.unknown("w")}
    cells = [make(number=1), make(number=2)]
    assert column(cells, "cell", gaps=[Gap(1, 2, 3.0, energy)]) == ["7", "gap", "7"]
    assert column(cells, "energy", gaps=[Gap(1, 2, 3.0, energy)])[1] == "≥ 40 J"
    assert column(cells, "energy", gaps=[Gap(1, 2, 3.0)])[1] == ""


def test_total_that_misses_a_device_is_a_lower_bound(session: list[Report], totals: Totals) -> None:
    assert column(session, "energy", totals=totals)[-2].startswith("≥ ")
    assert column(session, "CO2e", totals=totals)[-2] == "≥ 0.63 g"
    assert column(session, "outcome", totals=totals)[-2] == "2 failed"


def test_total_of_known_cells_is_plain(make: Make) -> None:
    report = make(carbon=Carbon(0.2, 0.2, 0.2, 400.0, "DE", "s", 2024))
    totals = Totals().with_report(report).with_report(report)
    assert column([report, report], "energy", totals=totals)[-1] == "3.7 kJ"
    assert column([report, report], "CO2e", totals=totals)[-1] == "0.40 g"
    assert column([report, report], "cell", totals=totals) == ["7", "7", "total"]


def test_totals_line(session: list[Report], totals: Totals) -> None:
    assert totals_line(session, None) == "6 tracked cells"
    assert totals_line(session[:1], None) == "1 tracked cell"
    assert totals_line(session, totals) == (
        "6 tracked cells · 2 failed · 1 h 3 min · ≥ 7.2 kJ (7.04–7.44) · ≥ 0.63 g CO2e"
    )


def test_totals_line_with_nothing_known(make: Make) -> None:
    report = make(energy={"cpu:b:0": Energy.unknown("w")}, carbon=None, memory=MemoryUse({}))
    totals = Totals().with_report(report)
    assert totals_line([report], totals) == "1 tracked cell · 12.3 s · energy unknown · CO2e unknown"
    exact = make(energy={"gpu:a": Energy(5.0, 5.0, 5.0, "measured", "s")})
    assert totals_line([exact], Totals().with_report(exact)).split(" · ")[2:] == ["5.00 J", "0.21 g CO2e"]
