from __future__ import annotations

import _thread
import asyncio
import functools
import gc
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest

import titan_nb
from titan_nb import tracker as tracker_module
from titan_nb.energy import Discovery, FakeSensor, Meter
from titan_nb.errors import SettingsError
from titan_nb.records import CellRef, Energy
from titan_nb.run import SHARED, Run, outcome_of
from titan_nb.settings import CarbonConfig, Settings
from titan_nb.tracker import Tracker, track


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tracker]:
    """A tracker of this test's own, also behind `titan_nb.track`."""
    mine = Tracker()
    monkeypatch.setattr(tracker_module, "default", lambda: mine)
    yield mine
    mine.close()


def test_a_run_becomes_one_report_in_the_ledger(ours: Tracker) -> None:
    cell = CellRef(3, 7, "id")
    run = ours.begin(cell, Settings(label="fit", carbon=CarbonConfig(zone="DE")))
    sum(range(10**5))
    report = run.finish("error", "ValueError")
    assert ours.ledger.reports == (report,)
    assert (report.cell, report.label, report.outcome, report.error) == (cell, "fit", "error", "ValueError")
    assert report.seconds > 0
    assert report.cpu_seconds > 0
    assert any(key.startswith("ram:") for key in report.memory.devices)
    assert run.finish() is report, "a window is closed once"
    assert len(ours.ledger.reports) == 1


def test_carbon_follows_the_zone_and_is_unknown_without_one(ours: Tracker) -> None:
    with_intensity = Settings(carbon=CarbonConfig(grams_per_kwh=500.0))
    first, second = ours.begin(settings=with_intensity).finish(), ours.begin().finish()
    assert second.carbon is None
    if first.total.joules is None:
        assert first.carbon is None
        return
    assert first.carbon is not None
    assert first.carbon.grams == pytest.approx(first.total.joules / 3.6e6 * 500)
    assert any("--zone" in note for note in second.notes)


def test_an_unknown_zone_is_refused_before_anything_opens(ours: Tracker) -> None:
    with pytest.raises(SettingsError, match="Atlantis"):
        ours.begin(settings=Settings(carbon=CarbonConfig(zone="Atlantis")))
    assert ours.begin().finish().parent is None, "nothing was left open"


def test_a_changed_zone_that_is_unknown_leaves_the_old_settings(ours: Tracker) -> None:
    run = ours.begin(settings=Settings(label="old"))
    with pytest.raises(SettingsError):
        run.change(Settings(label="new", carbon=CarbonConfig(zone="Atlantis")))
    assert run.finish().label == "old"


def test_nested_windows_name_their_parent(ours: Tracker) -> None:
    outer = ours.begin()
    inner = ours.begin()
    innermost = ours.begin()
    reports = [run.finish() for run in (innermost, inner, outer)]
    assert [report.parent for report in reports] == [inner.number, outer.number, None]
    assert ours.ledger.totals.cells == 1


def test_windows_in_two_threads_share_their_time(ours: Tracker) -> None:
    alone = ours.begin().finish()
    main = ours.begin()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(ours.begin().finish()))
    thread.start()
    thread.join()
    report = main.finish()
    assert not alone.shared_window
    assert report.shared_window
    assert seen[0].shared_window
    assert seen[0].parent == report.number, "it lies inside: its work is in the other's figures"
    assert seen[0].total.low == 0.0, "and nobody can tell how much of the process's work was its own"
    assert SHARED in seen[0].notes
    assert ours.ledger.totals.cells == 2


def test_gaps_lie_between_outermost_windows(ours: Tracker) -> None:
    first = ours.begin()
    ours.begin().finish()
    first.finish()
    time.sleep(0.02)
    second = ours.begin()
    second.finish()
    (gap,) = ours.ledger.gaps
    assert (gap.after, gap.before) == (first.number, second.number)
    assert gap.seconds >= 0.02


def test_a_dropped_run_leaves_no_report_and_no_parent(ours: Tracker) -> None:
    ours.begin().drop()
    assert ours.ledger.reports == ()
    assert ours.begin().finish().parent is None


def test_close_ends_what_is_open_and_the_next_window_works(ours: Tracker) -> None:
    ours.begin()
    ours.close()
    assert ours.begin().finish().parent is None


def test_the_context_manager_reports_and_lets_errors_through(ours: Tracker) -> None:
    with track(label="block", grams_per_kwh=100) as run:
        assert "open" in repr(run)
    assert run.report is not None
    assert run.report.label == "block"
    assert "ok" in repr(run)
    with pytest.raises(ZeroDivisionError), track() as run:
        1 / 0  # noqa: B018
    assert run.report is not None
    assert (run.report.outcome, run.report.error) == ("error", "ZeroDivisionError")


def test_the_decorator_measures_each_call(ours: Tracker) -> None:
    @track
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    @track(label="named")
    def triple(x: int) -> int:
        return 3 * x

    assert (double(2), triple(2), double(3)) == (4, 6, 6)
    assert [report.label for report in ours.ledger.reports] == ["double", "named", "double"]
    assert double.__doc__ == "Twice."


def test_a_decorated_function_may_call_itself(ours: Tracker) -> None:
    @track
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(3) == 3
    assert [report.parent for report in ours.ledger.reports] == [None, 1, 2, 3]


def test_a_coroutine_is_measured_to_its_end(ours: Tracker) -> None:
    @track
    async def slow() -> str:
        await asyncio.sleep(0.02)
        return "done"

    assert asyncio.run(slow()) == "done"
    (report,) = ours.ledger.reports
    assert report.seconds >= 0.02


@pytest.mark.parametrize("thing", ["fit", 5, object()])
def test_what_is_not_a_function_is_refused(thing: object) -> None:
    with pytest.raises(TypeError, match="cannot wrap"):
        track(thing)  # type: ignore[call-overload]


def test_a_callable_without_a_name_is_labelled_by_its_kind(ours: Tracker) -> None:
    assert track(functools.partial(int, "7"))() == 7
    assert ours.ledger.reports[-1].label == "partial"


def test_one_block_in_two_threads_keeps_its_windows_apart(ours: Tracker) -> None:
    block = track(label="both")
    seconds: dict[str, float] = {}

    def work(name: str, length: float) -> None:
        with block as run:
            time.sleep(length)
        assert run.report is not None
        seconds[name] = run.report.seconds

    threads = [threading.Thread(target=work, args=pair) for pair in (("short", 0.05), ("long", 0.3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seconds["short"] < 0.25 <= seconds["long"]


def test_interrupts_leave_no_window_open(ours: Tracker) -> None:
    def work() -> None:
        while time.monotonic() < end:
            with track():
                pass

    def interrupt() -> None:
        while not done.wait(0.0005):
            _thread.interrupt_main()

    def on_interrupt(_number: int, frame: FrameType | None) -> None:
        # Around `work` an interrupt would end the test, or pytest. In the collector's callback of hypothesis
        # it would be printed as one that nobody can catch; in one of titan's it is to fail the test.
        while frame is not None and frame.f_code is not work.__code__:
            if "hypothesis" in frame.f_code.co_filename:
                return
            frame = frame.f_back
        if frame is not None:
            raise KeyboardInterrupt

    # The first window imports modules, and an import that is interrupted leaves its file open.
    ours.begin().finish()
    done = threading.Event()
    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, on_interrupt)
    caught = 0
    end = time.monotonic() + 0.5
    try:
        thread.start()
        while time.monotonic() < end:
            try:
                work()
            except KeyboardInterrupt:
                caught += 1
    finally:
        done.set()
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert caught > 10
    gc.collect()
    assert ours.begin().finish().parent is None


def test_generator_functions_are_refused_with_the_remedy(ours: Tracker) -> None:
    def items() -> object:
        yield 1

    async def later() -> object:
        yield 1

    for function in (items, later):
        with pytest.raises(TypeError, match=rf"{function.__name__}.*with titan_nb.track\(\)"):
            track(function)


def test_settle_waits_for_a_late_counter_and_refines_the_ledger() -> None:
    sensor = FakeSensor(blocking=True, faults=[None, "hang"], hang_seconds=0.15)
    mine = Tracker(meter=Meter(discover=lambda: Discovery((sensor,))))
    run = mine.begin()
    first = run.finish()
    assert first.energy["gpu:simulated"].grade == "unknown", "the prompt does not wait for a slow counter"
    settled = run.settle(5.0)
    assert settled.energy["gpu:simulated"].joules is not None
    assert mine.ledger.reports == (settled,)
    assert run.settle(0.0) is settled
    mine.close()


def test_a_refined_report_reaches_the_ledger_and_one_listener(ours: Tracker) -> None:
    run = ours.begin()
    report = run.finish()
    heard: list[object] = []
    run.when_refined(report, heard.append)
    better = {"gpu:a": Energy(1.0, 1.0, 1.0, "measured", "simulated")}
    measurement = titan_nb.records.Measurement(report.seconds, report.cpu_seconds, better)
    run._refine(measurement)
    run._refine(measurement)
    assert run.report is not None
    assert run.report.energy == better
    assert ours.ledger.reports == (run.report,)
    assert len(heard) == 1
    late: list[object] = []
    run.when_refined(report, late.append)
    assert late == [run.report], "a refinement that came before the listener is not lost"


def test_a_dropped_run_is_never_refined(ours: Tracker) -> None:
    run = ours.begin()
    run.drop()
    run._refine(titan_nb.records.Measurement(1.0, 1.0, {}))
    assert run.report is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, ("ok", None)),
        (ValueError, ("error", "ValueError")),
        (KeyboardInterrupt(), ("interrupted", "KeyboardInterrupt")),
        (asyncio.CancelledError(), ("interrupted", "CancelledError")),
        (SystemExit(1), ("error", "SystemExit")),
    ],
)
def test_outcomes(
    error: BaseException | type[BaseException] | None, expected: tuple[str, str | None]
) -> None:
    assert outcome_of(error) == expected


def test_public_functions_reach_the_process_wide_session() -> None:
    titan_nb.ledger().reset()
    with titan_nb.track(label="here") as run:
        pass
    assert isinstance(run, Run)
    assert titan_nb.ledger().reports == (run.report,)
    assert list(titan_nb.history()["label"]) == ["here"]
    assert titan_nb.chat_memory() is titan_nb.chat_memory()
    assert run.report is not None
    assert "here" in titan_nb.describe(run.report)


def test_meters_can_be_given() -> None:
    meter = Meter()
    assert Tracker(meter=meter).meter is meter
    meter.close()


def overlapping(tracker: Tracker) -> tuple[Run, Run]:
    """Two windows of two threads, the second of which ends later."""
    first = tracker.begin()
    thread = threading.Thread(target=lambda: runs.append(tracker.begin()))
    runs: list[Run] = []
    thread.start()
    thread.join()
    time.sleep(0.05)
    return first, runs[0]


@pytest.mark.parametrize("counter", [True, False])
def test_windows_that_overlap_count_once_however_late_their_reports_are(counter: bool) -> None:
    sensor = FakeSensor(blocking=True, tick_seconds=0.01 if counter else 0, counter=counter)
    tracker = Tracker(meter=Meter(lambda: Discovery((sensor,))))
    try:
        tracker.meter.status()
        first, second = overlapping(tracker)
        first.close()
        time.sleep(0.05)
        second.close()
        time.sleep(0.2)  # a value is being stored
        first.finish()
        second.finish()
        whole = sensor.true_joules(first.window.started, second.window.ended or 0.0)
        assert tracker.ledger.totals.energy[sensor.key].joules == pytest.approx(whole, rel=0.2)
    finally:
        tracker.close()


def test_of_windows_that_overlap_the_last_may_be_done_first() -> None:
    sensor = FakeSensor(blocking=True, tick_seconds=0.01)
    tracker = Tracker(meter=Meter(lambda: Discovery((sensor,))))
    try:
        tracker.meter.status()
        first, second = overlapping(tracker)
        first.window.end()
        time.sleep(0.05)
        second.finish()
        first.finish()
        second.settle()
        time.sleep(0.1)
        whole = sensor.true_joules(first.window.started, second.window.ended or 0.0)
        assert tracker.ledger.totals.energy[sensor.key].joules == pytest.approx(whole, rel=0.2)
    finally:
        tracker.close()


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_window_dropped_from_an_overlap_counts_no_joule_twice(which: str) -> None:
    sensor = FakeSensor(blocking=True, tick_seconds=0.01)
    tracker = Tracker(meter=Meter(lambda: Discovery((sensor,))))
    try:
        tracker.meter.status()
        first, second = overlapping(tracker)
        first.drop() if which == "first" else first.finish()
        time.sleep(0.05)
        second.drop() if which == "last" else second.settle()
        time.sleep(0.2)
        totals, whole = (
            tracker.ledger.totals,
            sensor.true_joules(first.window.started, second.window.ended or 0),
        )
        gaps = sum(energy.joules or 0.0 for energy in totals.gap_energy.values())
        assert (totals.energy[sensor.key].joules or 0.0) + gaps == pytest.approx(whole, rel=0.2)
    finally:
        tracker.close()


def test_the_time_of_windows_after_an_overlap_is_their_own(ours: Tracker) -> None:
    first, second = overlapping(ours)
    first.finish()
    second.finish()
    before = ours.ledger.totals.seconds
    alone = ours.begin().finish()
    assert ours.ledger.totals.seconds == pytest.approx(before + alone.seconds)
