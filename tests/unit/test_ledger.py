from __future__ import annotations

import dataclasses
import threading

from titan_nb.ledger import NEWEST, Ledger
from titan_nb.records import Carbon, Energy, Gap, MemoryUse, Report


def report(number: int, joules: float = 1.0, **changes: object) -> Report:
    plain = Report(
        number=number,
        cell=None,
        label=None,
        outcome="ok",
        error=None,
        started="2026-01-01T00:00:00.000+00:00",
        seconds=2.0,
        cpu_seconds=1.0,
        energy={"gpu:a": Energy(joules, joules - 0.5, joules + 0.5, "measured", "simulated")},
        carbon=None,
        memory=MemoryUse({}),
    )
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_reports_are_kept_in_the_order_of_their_numbers() -> None:
    ledger = Ledger()
    inner, outer = report(2, parent=1), report(1)
    ledger.add(inner)
    ledger.add(outer)
    assert ledger.reports == (outer, inner)


def test_totals_count_each_joule_once() -> None:
    ledger = Ledger()
    ledger.add(report(1, 10.0))
    ledger.add(report(2, 4.0, parent=1))
    ledger.add(report(3, 5.0, outcome="error", error="ValueError"))
    totals = ledger.totals
    assert (totals.cells, totals.failed, totals.seconds, totals.cpu_seconds) == (2, 1, 4.0, 2.0)
    energy = totals.energy["gpu:a"]
    assert (energy.joules, energy.low, energy.high, energy.grade) == (15.0, 14.0, 16.0, "measured")


def test_an_unknown_part_keeps_the_known_sum() -> None:
    ledger = Ledger()
    ledger.add(report(1, energy={"gpu:a": Energy.unknown("lost")}))
    ledger.add(report(2, 3.0))
    assert ledger.totals.energy["gpu:a"].joules == 3.0
    assert ledger.totals.energy["gpu:a"].source == "simulated"


def test_carbon_is_summed_where_it_is_known() -> None:
    ledger = Ledger()
    carbon = Carbon(2.0, 1.0, 3.0, 400.0, "DE", "a table", 2024)
    ledger.add(report(1))
    assert ledger.totals.grams is None
    ledger.add(report(2, carbon=carbon))
    ledger.add(report(3, carbon=carbon))
    assert (ledger.totals.grams, ledger.totals.grams_unknown) == (4.0, 1)


def test_a_bounded_history_keeps_the_totals() -> None:
    ledger = Ledger(limit=3)
    for number in range(1, 11):
        ledger.add(report(number, 1.0))
    assert [one.number for one in ledger.reports] == [8, 9, 10]
    assert ledger.totals.cells == 10
    assert ledger.totals.energy["gpu:a"].joules == 10.0
    ledger.limit = 1
    assert [one.number for one in ledger.reports] == [10]
    assert ledger.limit == 1
    assert ledger.totals.cells == 10


def test_what_was_unknown_is_not_forgotten_with_its_report() -> None:
    ledger = Ledger(limit=1)
    ledger.add(report(1, energy={"gpu:a": Energy.unknown("lost")}))
    ledger.add(report(2, 3.0))
    ledger.add(report(3, 3.0))
    assert ledger.totals.energy["gpu:a"].joules == 6.0
    assert ledger.totals.unknown == {"gpu:a": 1}, "so the sum is a lower bound"


def test_a_nested_report_leaves_a_bounded_history_uncounted() -> None:
    ledger = Ledger(limit=1)
    ledger.add(report(2, parent=1))
    ledger.add(report(1))
    assert ledger.totals.cells == 1


def test_a_refined_report_takes_the_place_of_the_first() -> None:
    ledger = Ledger(limit=1)
    ledger.add(report(1, 1.0))
    assert ledger.refine(report(1, 2.0))
    assert ledger.totals.energy["gpu:a"].joules == 2.0
    ledger.add(report(2, 1.0))
    assert not ledger.refine(report(1, 9.0)), "a report that is no longer kept cannot be refined"
    assert ledger.totals.energy["gpu:a"].joules == 3.0


def test_gaps_are_kept_and_summed() -> None:
    ledger = Ledger()
    gap = Gap(1, 2, 0.5, {"gpu:a": Energy(7.0, 6.0, 8.0, "measured", "simulated")})
    ledger.add_gap(gap)
    ledger.add_gap(gap)
    assert ledger.gaps == (gap, gap)
    assert ledger.totals.gap_energy["gpu:a"].joules == 14.0


def test_reset_forgets_everything() -> None:
    ledger = Ledger()
    ledger.add(report(ledger.next_number()))
    ledger.add_gap(Gap(1, 2, 0.5))
    ledger.reset()
    assert (ledger.reports, ledger.gaps, ledger.totals.cells) == ((), (), 0)


def test_a_window_that_is_open_during_a_reset_keeps_its_number_for_itself() -> None:
    ledger = Ledger()
    open_window = ledger.next_number()
    ledger.reset()
    assert ledger.next_number() != open_window


def test_the_frame_has_one_row_a_report_and_units_in_its_columns() -> None:
    ledger = Ledger()
    assert ledger.to_frame().empty
    ledger.add(report(1, 3.0, label="fit"))
    frame = ledger.to_frame()
    assert len(frame) == 1
    assert frame.loc[0, "energy_joules"] == 3.0
    assert frame.loc[0, "label"] == "fit"
    assert frame.loc[0, "started"].isoformat() == "2026-01-01T00:00:00+00:00"
    for column in ("seconds", "cpu_seconds", "co2e_grams", "ram_peak_bytes"):
        assert column in frame.columns


def test_numbers_are_unique_over_threads() -> None:
    ledger = Ledger()
    numbers: list[int] = []

    def take() -> None:
        numbers.extend(ledger.next_number() for _ in range(500))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 2001))


def joules_in(ledger: Ledger) -> float | None:
    return ledger.totals.energy["gpu:a"].joules


def test_overlapping_windows_are_counted_by_what_they_took_together() -> None:
    ledger = Ledger()
    ledger.add(report(1, 30.0))
    ledger.add(report(2, 10.0))
    ledger.overlap([1, 2], 3.0, 1.5, {"gpu:a": Energy(32.0, 30.0, 34.0, "measured", "simulated")})
    totals = ledger.totals
    assert (totals.cells, totals.seconds, totals.cpu_seconds) == (2, 3.0, 1.5)
    energy = totals.energy["gpu:a"]
    assert (energy.joules, energy.low, energy.high) == (32.0, 30.0, 34.0)


def test_a_report_that_comes_after_its_overlap_is_counted_in_it() -> None:
    ledger = Ledger()
    ledger.add(report(1, 30.0))
    ledger.overlap([1, 2], 3.0, 1.5, {"gpu:a": Energy(32.0, 30.0, 34.0, "measured", "simulated")})
    ledger.add(report(2, 10.0))
    assert joules_in(ledger) == 32.0
    assert ledger.totals.seconds == 3.0


def test_a_report_refined_late_changes_the_totals() -> None:
    ledger = Ledger()
    for number in range(1, NEWEST + 10):
        ledger.add(report(number))
    assert joules_in(ledger) == NEWEST + 9
    ledger.refine(report(1, 5.0))
    ledger.add_gap(Gap(1, 2, 1.0, {"gpu:a": Energy(7.0, 7.0, 7.0, "measured", "simulated")}))
    ledger.add(report(NEWEST + 10))
    assert joules_in(ledger) == NEWEST + 14
    assert ledger.totals.gap_energy["gpu:a"].joules == 7.0


def test_reports_that_are_let_go_before_the_totals_are_asked_for_stay_in_them() -> None:
    ledger = Ledger(limit=NEWEST + 5)
    for number in range(1, NEWEST + 6):
        ledger.add(report(number))
    ledger.refine(report(2, 5.0))
    for number in range(NEWEST + 6, NEWEST + 11):
        ledger.add(report(number))
    assert joules_in(ledger) == NEWEST + 14
