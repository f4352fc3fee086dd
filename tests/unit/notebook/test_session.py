"""What a shell does when titan itself fails or is interrupted: nothing that the cell would notice."""

from __future__ import annotations

import io
import signal
import time
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from tests.unit.notebook.shells import run
from titan_nb.energy import Discovery, FakeSensor, Meter
from titan_nb.notebook import session as session_module
from titan_nb.notebook.session import Session
from titan_nb.records import Gap


@pytest.fixture
def session(titan: InteractiveShell) -> Session:
    return titan.magics_manager.registry["TitanMagics"]._session  # type: ignore[no-any-return]


def broken(*args: object, **kwargs: object) -> Any:
    raise RuntimeError("a fault of titan's own")


@pytest.mark.parametrize("cell", ["%%titan -q\nx = 6 * 7", "x = 6 * 7"])
@pytest.mark.parametrize("where", ["begin", "finish"])
def test_a_fault_of_titan_is_one_warning_and_leaves_the_cell_alone(
    titan: InteractiveShell,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    cell: str,
    where: str,
) -> None:
    run(titan, "%titan on")
    target = session.tracker if where == "begin" else session.presenter
    monkeypatch.setattr(target, "begin" if where == "begin" else "show", broken)
    capsys.readouterr()
    for _ in range(3):
        titan.user_ns.pop("x", None)
        result = titan.run_cell(cell)
        assert result.success
        assert titan.user_ns["x"] == 42
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("titan:") == 1
    assert "a fault of titan's own" in captured.err


def test_a_warning_that_cannot_be_written_leaves_the_cell_alone(
    titan: InteractiveShell, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session.tracker, "begin", broken)
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(session_module, "sys", SimpleNamespace(stderr=closed))
    result = titan.run_cell("%%titan\nx = 6 * 7")
    assert result.success
    assert titan.user_ns["x"] == 42


def test_a_zone_that_cannot_be_used_is_warned_of_when_always_on(
    titan: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run(titan, "%titan on")
    magics = titan.magics_manager.registry["TitanMagics"]
    magics._trait_values["zone"] = "Atlantis"  # as if the table had lost it since
    magics._plain = None
    capsys.readouterr()
    for _ in range(3):
        run(titan, "x = 1")
    assert capsys.readouterr().err.count("no zone 'Atlantis'") == 1
    run(titan, "%titan off")
    count = len(titan_nb.ledger().reports)
    result = titan.run_cell("%titan on")
    assert type(result.error_in_exec).__name__ == "UsageError"
    run(titan, "x = 2")
    assert len(titan_nb.ledger().reports) == count, "it was not switched on"
    run(titan, "%config TitanMagics.zone = None")


def test_an_interrupt_while_a_tracked_cell_begins_is_the_cells(
    titan: InteractiveShell, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = session.tracker.begin

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return begin(*args, **kwargs)

    monkeypatch.setattr(session.tracker, "begin", interrupted)
    result = titan.run_cell("%%titan -q -o r\nran = True")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert "ran" not in titan.user_ns
    assert titan.user_ns["r"].outcome == "interrupted"


def test_an_interrupt_while_an_always_on_cell_begins_reaches_the_cell(
    titan: InteractiveShell, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(titan, "%titan on")
    begin = session.tracker.begin

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return begin(*args, **kwargs)

    monkeypatch.setattr(session.tracker, "begin", interrupted)
    titan.user_ns["time"] = time
    result = titan.run_cell("for _ in range(1000): time.sleep(0.01)")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert titan_nb.ledger().reports[-1].outcome == "interrupted"


def test_an_interrupt_while_a_cell_is_reported_is_over(
    titan: InteractiveShell, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    show = session.presenter.show

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return show(*args, **kwargs)

    monkeypatch.setattr(session.presenter, "show", interrupted)
    before = signal.getsignal(signal.SIGINT)
    result = titan.run_cell("%%titan -q\nx = 1")
    assert result.success
    assert signal.getsignal(signal.SIGINT) is before
    run(titan, "y = 2")


def test_switching_outside_a_cell(titan: InteractiveShell) -> None:
    titan.run_line_magic("titan", "on")
    run(titan, "x = 1")
    titan.run_line_magic("titan", "off")
    assert len(titan_nb.ledger().reports) == 1


def test_what_a_cell_that_does_not_parse_took_goes_to_a_gap(
    titan: InteractiveShell, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensor = FakeSensor(blocking=True, tick_seconds=0.01)
    meter = Meter(lambda: Discovery((sensor,)))
    monkeypatch.setattr(session.tracker, "meter", meter)
    meter.status()
    try:
        run(titan, "%titan on")
        before = len(session.ledger.reports)
        titan.run_cell("x = = 1")
        deadline = time.monotonic() + 5.0
        own: list[Gap] = []
        while not own and time.monotonic() < deadline:
            time.sleep(0.01)
            own = [gap for gap in session.ledger.gaps if gap.after == gap.before]
        assert len(session.ledger.reports) == before
        assert own[0].energy[sensor.key].joules
    finally:
        run(titan, "%titan off")
        meter.close()


@pytest.mark.parametrize(("body", "outcome"), [("x = 6 * 7", "ok"), ("1 / 0", "error")])
def test_a_report_whose_end_an_interrupt_took_away_is_written_before_the_next_cell(
    titan: InteractiveShell, monkeypatch: pytest.MonkeyPatch, body: str, outcome: str
) -> None:
    monkeypatch.setattr(titan.display_pub, "parent_header", {"msg_id": "first"}, raising=False)
    trigger = titan.events.trigger

    def interrupted(event: str, *args: object) -> None:
        if event == "post_run_cell":
            raise KeyboardInterrupt
        trigger(event, *args)

    with monkeypatch.context() as patch:
        patch.setattr(titan.events, "trigger", interrupted)
        with pytest.raises(KeyboardInterrupt):
            titan.run_cell(f"%%titan -q -o r\n{body}", store_history=True)
    assert titan_nb.ledger().reports == ()
    monkeypatch.setattr(titan.display_pub, "parent_header", {"msg_id": "second"})
    titan.run_cell("r.outcome", store_history=True).raise_error()
    (report,) = titan_nb.ledger().reports
    assert titan.user_ns["r"] is report
    assert report.outcome == outcome
    assert session_module.LOST_END in report.notes
