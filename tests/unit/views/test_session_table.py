from __future__ import annotations

from collections.abc import Callable

from titan_nb.ledger import Totals
from titan_nb.records import Carbon, Cost, Energy, Gap, MemoryUse, Report
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


def test_gap_stands_before_the_report_that_ends_it(make: Make) -> None:
    energy = {"gpu:a": Energy(40.0, 35.0, 45.0, "measured", "s"), "cpu:b:0": Energy.unknown("w")}
    cells = [make(number=1), make(number=2, parent=1), make(number=3)]
    gaps = [Gap(1, 3, 3.0, energy)]
    assert column(cells, "cell", gaps=gaps) == ["7", "7", "gap", "7"]
    assert column(cells, "energy", gaps=gaps)[2] == "≥ 40 J"
    assert column(cells, "time", gaps=gaps)[2] == "3.00 s"
    assert column(cells, "interval", gaps=gaps)[2] == "35–45"


def test_dropped_window_stands_among_the_gaps_around_it(make: Make) -> None:
    energy = {"gpu:a": Energy(40.0, 35.0, 45.0, "measured", "s")}
    # Late figures come in any order.
    gaps = [Gap(2, 2, 5.0, energy), Gap(2, 3, 6.0, energy), Gap(1, 2, 4.0, energy), Gap(3, 3, 7.0, energy)]
    shown = column([make(number=1), make(number=3)], "time", gaps=gaps)
    assert shown == ["12.3 s", "4.00 s", "5.00 s", "6.00 s", "7.00 s", "12.3 s"]
    ending = column([make(number=1)], "time", gaps=gaps[:1])
    assert ending == ["12.3 s", "5.00 s"]


def test_gap_shows_its_share_though_it_is_bounded(make: Make) -> None:
    gaps = [
        Gap(1, 2, 0.01, {"gpu:a": Energy(2.0, 0.0, 7.0, "bounded", "s")}),
        Gap(2, 3, 0.01, {"gpu:a": Energy.unknown("w")}),
    ]
    cells = [make(number=number) for number in (1, 2, 3)]
    assert column(cells, "energy", gaps=gaps)[1::2] == ["2 J", "unknown"]
    assert column(cells, "interval", gaps=gaps)[1::2] == ["0–7", ""]
    assert column(cells, "grade", gaps=gaps)[1::2] == ["bounded", ""]


def test_gap_of_which_no_counter_tells_is_no_row(make: Make) -> None:
    assert column([make(number=1), make(number=2)], "cell", gaps=[Gap(1, 2, 3.0)]) == ["7", "7"]


def test_cost_has_a_column_where_there_is_a_price(make: Make) -> None:
    cost = Cost(0.0005, 0.00045, 0.00055, "EUR", "1 EUR/kWh, given by the user")
    assert column([make(cost=cost), make()], "cost") == ["0.00050 EUR", ""]
    assert "cost" not in session_table([make()]).titles


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
