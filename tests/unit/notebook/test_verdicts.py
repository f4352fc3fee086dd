"""`%titan compare` and `%titan audit`; `%titan budget` has tests of its own."""

from __future__ import annotations

import pytest
from IPython.core.interactiveshell import InteractiveShell

import titan_nb
from tests.unit.notebook.shells import run, shown
from titan_nb import audit
from titan_nb.audit import Opinion
from titan_nb.errors import TitanError
from titan_nb.records import Energy, MemoryUse, Report


def add(label: str | None, low: float, value: float, high: float) -> Report:
    ledger = titan_nb.ledger()
    report = Report(
        number=ledger.next_number(),
        cell=None,
        label=label,
        outcome="ok",
        error=None,
        started="2026-01-01T00:00:00.000+00:00",
        seconds=1.0,
        cpu_seconds=1.0,
        energy={"gpu:0": Energy(value, low, high, "measured", "a counter")},
        carbon=None,
        memory=MemoryUse({}),
    )
    ledger.add(report)
    return report


def test_reports_are_compared_by_number_label_and_variable(titan: InteractiveShell) -> None:
    first = add("before", 9, 10, 11)
    second = add("my fit", 5, 6, 7)
    add("my fit", 15, 16, 17)
    titan.user_ns["kept"] = second
    for words in (f"{first.number} {second.number}", "before kept", f"'before' {second.number}"):
        (display,) = shown(titan, f"%titan compare {words}")
        text = display.data["text/plain"]
        assert text.startswith("'my fit' against 'before'\n")
        assert "energy  better" in text
        assert "0.455–0.778" in text
        assert "- an error that both figures share" in text
        assert "<li>an error that both" in display.data["text/html"]
    (display,) = shown(titan, "%titan compare before 'my fit'")  # the latest of that label
    assert "energy  worse" in display.data["text/plain"]


def test_the_comparison_can_be_kept(titan: InteractiveShell) -> None:
    add("a", 9, 10, 11)
    add("b", 9, 10, 11)
    assert shown(titan, "%titan compare a b -o result") == []
    assert titan.user_ns["result"].verdict == "cannot tell"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%titan compare", "say what to compare"),
        ("%titan compare a", "say what to compare"),
        ("%titan compare a b c", "takes no 'c'"),
        ("%titan compare 9999999 a", "there is no report 9999999 in the session"),
        ("%titan compare a nothing", "nothing is neither the number or the label of a report"),
        ("%titan recall a b", "%titan recall takes no 'b'"),
        ("%titan audit", "say start or stop"),
        ("%titan audit begin", "say start or stop"),
        ("%titan audit stop", "eco2ai is not running"),
        ("%titan audit start", "eco2ai needs a country, or it asks the network"),
        ("%titan audit start --zone Nowhere", "eco2ai's table has no zone"),
    ],
)
def test_what_cannot_be_done_is_a_usage_error(
    titan: InteractiveShell, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    add("a", 1, 2, 3)
    assert not titan.run_cell(line).success
    captured = capsys.readouterr()
    assert message in captured.err + captured.out


class FakeAudit:
    """An audit that says what the test wants."""

    opinion = Opinion(
        seconds=61.0,
        joules=1000.0,
        grams=0.1,
        zone="eco2ai:DE",
        grams_per_kwh=332.5,
        cells=Energy(50.0, 40.0, 60.0, "modelled", "a model"),
        gaps=Energy.unknown("no device"),
        cell_grams=None,
        reasons=("because",),
    )
    stops = 0
    error: TitanError | None = None

    def __init__(self, ledger: object, zone: str, region: str | None) -> None:
        self.asked = (zone, region)

    def start(self) -> None:
        if self.error is not None:
            raise self.error

    def stop(self) -> Opinion:
        FakeAudit.stops += 1
        if self.error is not None:
            raise self.error
        return self.opinion


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeAudit]:
    monkeypatch.setattr(audit, "Audit", FakeAudit)
    monkeypatch.setattr(FakeAudit, "stops", 0)
    return FakeAudit


def test_an_audit_shows_both_figures_and_why_they_differ(
    titan: InteractiveShell, fake: type[FakeAudit]
) -> None:
    run(titan, "%titan audit start --zone US --region California")
    session = titan.magics_manager.registry["TitanMagics"]._session
    assert session.audit.asked == ("US", "California")
    assert not titan.run_cell("%titan audit start --zone US").success
    (display,) = shown(titan, "%titan audit stop")
    text = display.data["text/plain"]
    assert text.startswith("Two opinions on 1 min 1 s\n")
    assert "1.00 kJ" in text
    assert "50 J (40–60)" in text
    assert text.endswith("- why they differ\n- because")
    assert session.audit is None


def test_the_zone_of_the_configuration_is_used(titan: InteractiveShell, fake: type[FakeAudit]) -> None:
    run(titan, "%config TitanMagics.zone = 'DE'")
    run(titan, "%titan audit start")
    session = titan.magics_manager.registry["TitanMagics"]._session
    assert session.audit.asked == ("DE", None)


def test_an_audit_that_does_not_work_says_why_in_one_line(
    titan: InteractiveShell,
    fake: type[FakeAudit],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(fake, "error", TitanError("eco2ai does not work here: KeyError: 'brand_raw'"))
    assert not titan.run_cell("%titan audit start --zone DE").success
    captured = capsys.readouterr()
    assert "UsageError: eco2ai does not work here: KeyError: 'brand_raw'" in captured.err + captured.out
    assert not titan.run_cell("%titan audit stop").success  # it never began


def test_unloading_ends_a_running_audit(
    titan: InteractiveShell, fake: type[FakeAudit], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(titan, "%titan audit start --zone DE")
    monkeypatch.setattr(fake, "error", TitanError("eco2ai failed"))
    run(titan, "%unload_ext titan_nb")
    assert fake.stops == 1
