from __future__ import annotations

import json
from collections.abc import Callable

from titan_nb.ledger import Totals
from titan_nb.records import CellRef, Energy, Gap, Report
from titan_nb.views.bundle import REPORT_MIME, TABLE_MIME, report_bundle, table_bundle
from titan_nb.views.html import report_html, table_html
from titan_nb.views.session import MAX_ROWS
from titan_nb.views.text import line, table

Make = Callable[..., Report]


def test_mime_types_are_the_documented_ones() -> None:
    assert REPORT_MIME == "application/vnd.titan.report+json"
    assert TABLE_MIME == "application/vnd.titan.table+json"


def test_report_bundle_holds_three_views(session: list[Report]) -> None:
    for report in session:
        bundle = report_bundle(report)
        assert set(bundle) == {REPORT_MIME, "text/html", "text/plain"}
        assert bundle["text/plain"] == line(report)
        assert bundle["text/html"] == report_html(report)
        assert Report.from_dict(json.loads(json.dumps(bundle[REPORT_MIME], allow_nan=False))) == report


def test_report_bundle_can_always_be_sent(make: Make) -> None:
    bundle = report_bundle(make(seconds=float("nan"), cpu_seconds=float("inf"), label="\ud800"))
    assert json.dumps(bundle, ensure_ascii=False, allow_nan=False).encode("utf-8")
    assert bundle[REPORT_MIME]["seconds"] is None
    assert "unknown" in bundle["text/plain"]


def test_report_of_one_cpu_takes_little_room(one_cpu: Report) -> None:
    assert len(json.dumps(report_bundle(one_cpu), ensure_ascii=False).encode()) <= 4000


def test_table_bundle_holds_three_views(session: list[Report], totals: Totals) -> None:
    gap = Gap(1, 2, 3.0, {"gpu:a": Energy(40.0, 35.0, 45.0, "measured", "s")})
    bundle = table_bundle(session, [gap], totals)
    assert set(bundle) == {TABLE_MIME, "text/html", "text/plain"}
    assert bundle["text/plain"] == table(session, [gap], totals)
    assert bundle["text/html"] == table_html(session, [gap], totals)
    data = json.loads(json.dumps(bundle[TABLE_MIME], allow_nan=False))
    assert data["schema"] == 1
    assert [Report.from_dict(one) for one in data["reports"]] == session
    (shown,) = data["gaps"]
    assert (shown["after"], shown["before"], shown["seconds"]) == (1, 2, 3.0)
    assert Energy(**shown["energy"]["gpu:a"]) == gap.energy["gpu:a"]
    assert data["totals"]["cells"] == 6
    assert data["totals"]["failed"] == 2
    assert set(data["totals"]["energy"]) == set(totals.energy)
    assert data["totals"]["gap_energy"]


def test_table_bundle_of_nothing() -> None:
    bundle = table_bundle([])
    assert bundle[TABLE_MIME] == {"schema": 1, "total_reports": 0, "reports": [], "gaps": [], "totals": None}


def test_table_bundle_is_bounded(make: Make) -> None:
    reports = [make(number=n, cell=CellRef(n, n)) for n in range(1, MAX_ROWS + 11)]
    energy = {"gpu:a": Energy(1.0, 1.0, 1.0, "measured", "s")}
    gaps = [Gap(n, n + 1, 1.0, energy) for n in range(1, MAX_ROWS + 10)]
    data = table_bundle(reports, gaps)[TABLE_MIME]
    assert data["total_reports"] == MAX_ROWS + 10
    assert len(data["reports"]) == MAX_ROWS
    assert data["reports"][0]["number"] == 11
    assert [gap["after"] for gap in data["gaps"]] == list(range(10, MAX_ROWS + 10))
