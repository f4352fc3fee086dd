from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan_nb.comparison import Compared, compare
from titan_nb.records import Carbon, Energy, MemoryUse, Report
from titan_nb.repeat import Estimate, Repeated


def report(
    low: float, value: float, high: float, *, label: str | None = None, device: str = "gpu:0"
) -> Report:
    return Report(
        number=3,
        cell=None,
        label=label,
        outcome="ok",
        error=None,
        started="2026-01-01T00:00:00.000+00:00",
        seconds=1.0,
        cpu_seconds=1.0,
        energy={device: Energy(value, low, high, "measured", "a counter")},
        carbon=None,
        memory=MemoryUse({}),
    )


def repeated(seconds: tuple[float, float, float], **changes: Any) -> Repeated:
    low, value, high = seconds
    fields: dict[str, Any] = {
        "label": "fit",
        "n": 5,
        "calls": 1,
        "energy": Estimate(10.0, 0.1, 9.0, 11.0),
        "seconds": Estimate(value, 0.1, low, high),
        "grams": Estimate(10.0, 0.1, 9.0, 11.0),
        "grade": "measured",
        "source": "a counter",
        "devices": frozenset({"gpu:0"}),
    }
    return Repeated(**fields | changes)


def test_less_is_better_more_is_worse_and_overlap_says_nothing() -> None:
    base = report(9, 10, 11)
    better = compare(base, report(5, 6, 7))
    assert better.verdict == "better"
    assert better.energy.value == pytest.approx(0.6)
    assert (better.energy.low, better.energy.high) == (pytest.approx(5 / 11), pytest.approx(7 / 9))
    assert str(better.energy) == "better: 0.6 × (0.455–0.778)"
    assert compare(base, report(15, 16, 17)).verdict == "worse"
    unclear = compare(base, report(8, 9, 10))
    assert unclear.verdict == "cannot tell"
    assert str(unclear.energy) == "cannot tell: 0.9 × (0.727–1.11), the intervals overlap"


def test_a_bounded_first_figure_has_a_ratio_without_an_upper_end() -> None:
    ratio = compare(report(0, 1, 2), report(1, 1.5, 2)).energy
    assert (ratio.verdict, ratio.high) == ("cannot tell", None)
    assert ratio.texts[2] == "0.5–no upper end"
    worse = compare(report(0, 1, 2), report(3, 4, 5)).energy
    assert (worse.verdict, worse.low, worse.high) == ("worse", 1.5, None)


def test_what_is_unknown_or_zero_cannot_be_compared() -> None:
    unknown = report(1, 1, 1)
    unknown = Report.from_dict(unknown.to_dict() | {"energy": {"gpu:0": _unknown()}})
    ratio = compare(unknown, report(1, 2, 3)).energy
    assert (ratio.verdict, ratio.value, ratio.why) == ("cannot tell", None, "the energy is unknown")
    assert str(ratio) == "cannot tell: the energy is unknown"
    assert compare(report(0, 0, 0), report(1, 2, 3)).energy.why == "the first figure is zero"


def _unknown() -> dict[str, object]:
    return {"joules": None, "low": None, "high": None, "grade": "unknown", "source": "no sensor"}


def test_the_time_of_a_single_run_is_not_judged() -> None:
    assert compare(report(1, 2, 3), repeated((1, 2, 3))).time.why.startswith("one run has no spread")
    assert compare(repeated((1, 2, 3)), repeated((1, 2, 3), n=1)).time.verdict == "cannot tell"
    assert compare(repeated((1.9, 2, 2.1)), repeated((0.9, 1, 1.1))).time.verdict == "better"


def test_carbon_is_compared_where_both_have_one() -> None:
    less = repeated((1, 1, 1), grams=Estimate(1, 0.1, 0.9, 1.1))
    assert compare(repeated((1, 1, 1)), less).carbon.verdict == "better"
    carbon = Carbon(10.0, 9.5, 10.5, 400.0, "DE", "a table", 2024)
    data = report(1, 2, 3).to_dict() | {"carbon": _as_dict(carbon)}
    assert compare(Report.from_dict(data), repeated((1, 1, 1))).carbon.value == 1.0
    assert compare(report(1, 2, 3), repeated((1, 1, 1))).carbon.why == "the carbon is unknown"


def _as_dict(carbon: Carbon) -> dict[str, object]:
    return {name: getattr(carbon, name) for name in carbon.__dataclass_fields__}


def test_the_notes_say_what_the_intervals_do_not() -> None:
    same = compare(repeated((1, 1, 1)), repeated((1, 1, 1)))
    assert len(same.notes) == 1
    assert "is not cancelled" in same.notes[0]
    assert "single run" in compare(report(1, 2, 3), report(1, 2, 3)).notes[1]
    other = compare(repeated((1, 1, 1)), repeated((1, 1, 1), devices=frozenset({"gpu:1"})))
    assert other.notes[-1] == "the two were not measured on the same devices"


def test_it_reads_well() -> None:
    compared = compare(report(9, 10, 11, label="before"), report(5, 6, 7))
    assert repr(compared).splitlines()[:4] == [
        "report 3 against 'before'",
        "  energy  better: 0.6 × (0.455–0.778)",
        "  time    cannot tell: one run has no spread: measure both with titan_nb.measure",
        "  carbon  cannot tell: the carbon is unknown",
    ]


def test_only_reports_and_repeated_figures_are_compared() -> None:
    with pytest.raises(TypeError, match="cannot compare 5: give a Report"):
        compare(5, report(1, 2, 3))  # type: ignore[arg-type]


positive = st.floats(0.01, 1e6)


@given(positive, positive, positive, positive, st.floats(0, 1), st.floats(0, 1))
def test_the_ratio_of_any_two_true_values_lies_in_the_interval(
    low: float, width: float, other_low: float, other_width: float, here: float, there: float
) -> None:
    first, second = (low, low + width), (other_low, other_low + other_width)
    truth = [bounds[0] + part * (bounds[1] - bounds[0]) for bounds, part in ((first, here), (second, there))]
    compared: Compared = compare(report(first[0], truth[0], first[1]), report(second[0], truth[1], second[1]))
    ratio, true_ratio = compared.energy, truth[1] / truth[0]
    assert ratio.low is not None
    assert ratio.low <= true_ratio * (1 + 1e-12)
    assert true_ratio <= (math.inf if ratio.high is None else ratio.high) * (1 + 1e-12)
    assert (ratio.verdict == "better") <= (true_ratio < 1 + 1e-12)
    assert (ratio.verdict == "worse") <= (true_ratio > 1 - 1e-12)
