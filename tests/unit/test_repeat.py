from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest

from titan_nb.errors import SettingsError
from titan_nb.records import Carbon, Energy, MemoryUse, Report
from titan_nb.repeat import Estimate, Repeated, estimate, measure, student_t
from titan_nb.settings import Settings
from titan_nb.tracker import Tracker


def report(
    number: int = 1, joules: float | None = 10.0, half: float = 1.0, seconds: float = 2.0, **changes: Any
) -> Report:
    energy = (
        Energy.unknown("no sensor")
        if joules is None
        else Energy(joules, joules - half, joules + half, "measured", "a counter")
    )
    made = Report(
        number=number,
        cell=None,
        label="fit",
        outcome="ok",
        error=None,
        started="2026-01-01T00:00:00.000+00:00",
        seconds=seconds,
        cpu_seconds=seconds,
        energy={"gpu:0": energy},
        carbon=None,
        memory=MemoryUse({}),
    )
    return dataclasses.replace(made, **changes)


@dataclass
class FakeRun:
    answer: Report
    settings: Settings
    ends: list[tuple[str, str | None]] = field(default_factory=list)
    dropped: bool = False
    settled: bool = False

    def close(self) -> None: ...

    def drop(self) -> None:
        self.dropped = True

    def finish(self, outcome: str = "ok", error: str | None = None) -> None:
        self.ends.append((outcome, error))

    def settle(self) -> Report:
        self.settled = True
        return self.answer


class FakeTracker:
    """Hands out runs whose reports are made up."""

    def __init__(self, *answers: Report) -> None:
        self.answers = list(answers)
        self.runs: list[FakeRun] = []

    def begin(self, settings: Settings) -> FakeRun:
        run = FakeRun(self.answers[len(self.runs) % len(self.answers)], settings)
        self.runs.append(run)
        return run


def measured(function: Any, tracker: FakeTracker, *args: Any, **options: Any) -> Repeated:
    return measure(function, *args, tracker=tracker, **options)  # type: ignore[arg-type]


def test_students_quantiles_are_those_of_the_printed_tables() -> None:
    # Two-sided 95 %: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.2.
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 100: 1.984}
    assert {degrees: round(student_t(degrees), 3) for degrees in table} == table


def test_the_interval_joins_spread_and_the_measurements_own_interval() -> None:
    # Mean 10, s = 1, n = 4: the half width of the spread is 3.182 / 2, and 0.5 and 2 are systematic.
    values = [(value, value - 0.5, value + 2.0) for value in (9.0, 9.0 + 2 / 3, 10.0 + 1 / 3, 11.0)]
    result = estimate(values)
    spread = (((1 + (1 / 3) ** 2) * 2 / 3) ** 0.5) / 2
    assert result.mean == pytest.approx(10)
    assert result.standard_error == pytest.approx(spread)
    assert result.low == pytest.approx(10 - 3.1824 * spread - 0.5, abs=1e-3)
    assert result.high == pytest.approx(10 + 3.1824 * spread + 2.0, abs=1e-3)


def test_no_interval_goes_below_zero_and_one_value_has_no_spread() -> None:
    assert estimate([(1.0, 0.0, 2.0), (5.0, 0.0, 6.0)]).low == 0.0
    assert estimate([(1.0, 0.5, 3.0)]) == Estimate(1.0, None, 0.5, 3.0)


def test_a_long_function_is_called_exactly_as_often_as_asked() -> None:
    calls: list[tuple[int, ...]] = []
    tracker = FakeTracker(report(joules=10), report(joules=12))
    result = measured(
        lambda *args: calls.append(args), tracker, 1, 2, repeat=4, warm_up=2, min_window_seconds=0
    )
    assert calls == [(1, 2)] * 6
    assert (result.n, result.calls, result.label) == (4, 1, "<lambda>")
    assert result.joules == pytest.approx(11)
    assert result.standard_error == pytest.approx((4 / 3) ** 0.5 / 2)
    assert result.low is not None
    assert result.high is not None
    assert result.low < 10 < 12 < result.high
    assert result.seconds.mean == 2.0
    assert result.grade == "measured"
    assert all(run.settled and run.ends == [("ok", None)] for run in tracker.runs)


def test_a_short_function_shares_its_window_with_others_until_it_is_long_enough() -> None:
    from time import sleep

    tracker = FakeTracker(report(joules=8, half=4, seconds=0.04))
    result = measured(lambda: sleep(0.002), tracker, repeat=3, min_window_seconds=0.01, label="nap")
    dropped = [run for run in tracker.runs if run.dropped]
    assert 1 <= len(dropped) <= 3
    assert result.calls == 2 ** len(dropped)
    assert len(tracker.runs) == len(dropped) + 3
    assert not any(run.ends for run in dropped)
    assert result.joules == pytest.approx(8 / result.calls)
    assert result.seconds.mean == pytest.approx(0.04 / result.calls)
    assert {run.settings.label for run in tracker.runs} == {"nap"}


def test_what_the_function_raises_comes_out_and_is_in_the_ledger() -> None:
    failure = ZeroDivisionError("the user's own")

    def fails() -> None:
        raise failure

    tracker = FakeTracker(report())
    with pytest.raises(ZeroDivisionError) as raised:
        measured(fails, tracker)
    assert raised.value is failure
    assert [run.ends for run in tracker.runs] == [[("error", "ZeroDivisionError")]]


def test_unknown_energy_is_unknown_and_time_is_not() -> None:
    result = measured(int, FakeTracker(report(joules=None)), repeat=2, min_window_seconds=0)
    assert result.energy is None
    assert (result.joules, result.standard_error, result.low, result.high) == (None, None, None, None)
    assert result.grade == "unknown"
    assert "energy  unknown (gpu:0: no sensor)" in repr(result)
    assert "time    2.00 s a call" in repr(result)


def test_one_window_that_is_unknown_makes_the_mean_unknown() -> None:
    tracker = FakeTracker(report(joules=1), report(joules=None))
    result = measured(int, tracker, repeat=2, min_window_seconds=0)
    assert result.energy is None


def test_a_device_that_is_missing_from_the_figure_is_named() -> None:
    parts = {"gpu:0": Energy(1.0, 0.0, 2.0, "bounded", "a counter"), "ram:0": Energy.unknown("no sensor")}
    result = measured(int, FakeTracker(report(energy=parts)), repeat=1, min_window_seconds=0)
    assert result.devices == {"gpu:0"}
    assert result.notes == (
        "one window shows no spread: the interval is that of the measurement alone",
        "unknown, and not in the figure: ram:0",
        "a window was shorter than a tick of a counter: raise min_window_seconds",
    )


def test_carbon_follows_where_it_is_known() -> None:
    carbon = Carbon(4.0, 3.0, 5.0, 400.0, "DE", "a table", 2024)
    result = measured(int, FakeTracker(report(carbon=carbon)), repeat=1, min_window_seconds=0)
    assert result.grams == Estimate(4.0, None, 3.0, 5.0)
    assert repr(result).splitlines() == [
        "int: 1 window of 1 call",
        "  energy  10 J (9–11), measured",
        "  time    2.00 s",
        "  CO2e    4 g (3–5)",
        "  - one window shows no spread: the interval is that of the measurement alone",
    ]


async def coroutine() -> None: ...


def generator() -> Any:
    yield


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (5, "measure cannot call 5"),
        (coroutine, "measure cannot await"),
        (generator, "generator function runs nothing"),
    ],
)
def test_what_cannot_be_called_is_refused(function: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        measured(function, FakeTracker(report()))


@pytest.mark.parametrize(
    "options",
    [
        {"repeat": 0},
        {"warm_up": -1},
        {"min_window_seconds": -1.0},
        {"min_window_seconds": float("nan")},
        {"zone": "nowhere"},
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_is_called(options: dict[str, Any]) -> None:
    called: list[int] = []
    with pytest.raises(SettingsError):
        measure(lambda: called.append(1), **options)
    assert called == []


def test_a_real_function_of_ten_milliseconds_gets_a_real_figure() -> None:
    def busy() -> int:
        return sum(range(200_000))

    tracker = Tracker()
    try:
        result = measure(busy, repeat=2, min_window_seconds=0.05, tracker=tracker, grams_per_kwh=400)
    finally:
        tracker.close()
    assert result.calls >= 2
    assert 0 < result.seconds.mean < 0.05
    assert [one.label for one in tracker.ledger.reports] == ["busy", "busy"]
    assert repr(result).startswith(f"busy: 2 windows of {result.calls} calls\n")
    if result.energy is not None:  # a machine of which nothing can be said is possible
        assert result.energy.low <= result.energy.mean <= result.energy.high
        assert result.grams is not None
