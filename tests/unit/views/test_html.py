from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from bs4 import BeautifulSoup

from titan_nb.ledger import Totals
from titan_nb.records import Carbon, CellRef, Cost, DeviceMemory, Energy, Gap, MemoryUse, Report
from titan_nb.views.grid import grid_bundle, grid_html
from titan_nb.views.html import report_html, table_html
from titan_nb.views.session import MAX_ROWS

Make = Callable[..., Report]

NAUGHTY = [
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src=javascript:alert(1)></iframe>",
    '<a href="javascript:alert(1)">x</a>',
    "<a href='java\tscript:alert(1)'>x</a>",
    "<body onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    '"><script>alert(1)</script>',
    "'><img src=x onerror=alert(1)>",
    "</td></tr></table><script>alert(1)</script>",
    "</summary></details><iframe>",
    "</style><style>*{display:none}</style>",
    "<style>body{color:red}</style>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<object data=javascript:alert(1)>",
    "<embed src=javascript:alert(1)>",
    "<form action=javascript:alert(1)><input type=submit>",
    "<meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<!--",
    "--><script>alert(1)</script><!--",
    "<![CDATA[<script>alert(1)</script>]]>",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "<scr\0ipt>alert(1)</scr\0ipt>",
    "\0\x01\x02\x1b[31mred\x1b[0m\x7f",
    "\u202egnp.exe\u202c",
    "\u2066\u2067mixed\u2069",
    "مرحبا بالعالم",
    "line one\nline two\r\nline three\u2028line four",
    "\ud800 half a pair \udfff",
    "`${alert(1)}` {{constructor.constructor('alert(1)')()}}",
    "$\\alpha$ \\(x\\)",
    "%s %n {0} {label}",
    "<" * 5000,
    "x" * 200_000,
    "&" * 5000,
    "",
    " ",
]

# What JupyterLab keeps in an untrusted notebook, as far as it is used here.
ALLOWED = {
    "details": {"style"},
    "summary": {"style"},
    "div": {"style"},
    "table": {"style", "cellpadding"},
    "caption": {"style"},
    "thead": set(),
    "tbody": set(),
    "tfoot": set(),
    "tr": {"align", "style"},
    "th": {"scope", "style"},
    "td": {"style"},
    "ul": {"style"},
    "li": set(),
}
STYLES = {
    "border-bottom": r"1px solid #8888",
    "border-collapse": r"collapse",
    "border-top": r"1px solid #8888",
    "cursor": r"pointer",
    "font-size": r"\d+%",
    "font-weight": r"normal",
    "margin": r"[\dpx ]+",
    "overflow-x": r"auto",
    "text-align": r"left",
    "white-space": r"nowrap",
}


def assert_clean(html: str) -> BeautifulSoup:
    page = BeautifulSoup(html, "html.parser")
    for tag in page.find_all(True):
        assert tag.name in ALLOWED, tag.name
        assert set(tag.attrs) <= ALLOWED[tag.name], tag.attrs
        for declaration in filter(None, str(tag.attrs.get("style", "")).split(";")):
            name, _, value = declaration.partition(":")
            assert re.fullmatch(STYLES[name], value), declaration
        for value in tag.attrs.values():
            assert "script" not in str(value)
    assert not [character for character in html if ord(character) < 32]
    html.encode("utf-8")
    return page


def poisoned(make: Make, text: str) -> Report:
    return make(
        label=text,
        outcome="error",
        error=text,
        started=text,
        energy={
            text: Energy(1.0, 0.5, 2.0, "measured", text),
            f"gpu:{text}": Energy(1.0, 0.5, 2.0, "measured", text),
            f"cpu:{text}": Energy.unknown(text),
        },
        carbon=Carbon(1.0, 1.0, 1.0, 400.0, text, text, 2024),
        memory=MemoryUse(
            {text: DeviceMemory(1, 2, 3, "exact", text), f"gpu:{text}": DeviceMemory(1, 2, 3, "exact", text)}
        ),
        notes=(text, text),
        chat=text,
    )


def test_there_are_enough_naughty_strings() -> None:
    assert len(set(NAUGHTY)) >= 30


@pytest.mark.parametrize("text", NAUGHTY, ids=range(len(NAUGHTY)))
def test_text_from_outside_stays_text(make: Make, text: str) -> None:
    page = assert_clean(report_html(poisoned(make, text)))
    assert len(page.find_all("summary")) == 1
    assert len(page.find_all("table")) == 2
    assert page.details is not None
    table = assert_clean(table_html([poisoned(make, text), make()]))
    assert len(table.find_all("tr")) == 3
    assert_clean(grid_bundle(text, (text, "b"), [(text, text)])["text/html"])


@pytest.mark.parametrize("text", NAUGHTY, ids=range(len(NAUGHTY)))
def test_naughty_strings_do_not_swell_the_notebook(make: Make, text: str) -> None:
    assert len(report_html(poisoned(make, text)).encode()) < 30_000


def test_the_check_itself_finds_a_script() -> None:
    for bad in (
        "<script>1</script>",
        "<p>1</p>",
        "<td onclick='x'>",
        "<div style='color:red'>",
        "<a href='#'>",
    ):
        with pytest.raises((AssertionError, KeyError)):
            assert_clean(bad)


def test_label_is_shown_as_it_was_typed(make: Make) -> None:
    page = BeautifulSoup(report_html(make(label="<b>fit</b>")), "html.parser")
    assert page.summary is not None
    assert "'<b>fit</b>'" in page.summary.text


def test_report_folds_and_is_closed(make: Make) -> None:
    page = assert_clean(report_html(make()))
    assert page.details is not None
    assert "open" not in page.details.attrs
    energy, memory = page.find_all("table")
    assert energy.caption is not None
    assert energy.caption.text == "Energy"
    assert [row.find("th").text for row in energy.tbody.find_all("tr")] == [
        "GPU 8f3a1c2d",
        "CPU (this process)",
        "RAM (this process)",
    ]
    assert memory.caption.text == "Memory"


def test_tables_can_be_read_aloud(session: list[Report], totals: Totals) -> None:
    page = assert_clean(table_html(session, totals=totals))
    assert page.table is not None
    assert page.caption is not None
    assert page.caption.text == "6 tracked cells"
    header, *rows = page.find_all("tr")
    assert [cell["scope"] for cell in header.find_all("th")] == ["col"] * len(header.find_all())
    for row in rows:
        assert row.find("th")["scope"] == "row"
        assert row.find("th").text.strip()
        assert len(row.find_all(["th", "td"])) == len(header.find_all("th"))


def test_gaps_come_with_a_balance(session: list[Report], totals: Totals) -> None:
    gaps = [Gap(1, 2, 3.0, dict(totals.gap_energy))]
    page = assert_clean(table_html(session, gaps, totals))
    cells, balance = page.find_all("table")
    assert [row.find("th").text for row in cells.tbody.find_all("tr")][:3] == ["1", "gap", "2"]
    assert balance.caption.text == "Balance of the counters"
    assert "CPU (this process)" in page.find_all("div")[-1].text
    assert len(assert_clean(table_html(session, totals=totals)).find_all("table")) == 1


def test_cost_and_idle_stand_in_the_detail(make: Make) -> None:
    energy = {"gpu:a": Energy(1700.0, 1670.0, 1730.0, "measured", "a counter", 840.0)}
    cost = Cost(0.0005, 0.00045, 0.00055, "<b>", "a <b>price</b>")
    page = assert_clean(report_html(make(energy=energy, cost=cost)))
    assert "of which idle" in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "cost 0.00050 <b> (0.00045–0.00055), at a <b>price</b>" in page.text


def test_report_of_one_cpu_is_small(one_cpu: Report) -> None:
    assert len(report_html(one_cpu).encode()) <= 2200


def test_report_with_nothing_known_has_no_tables(make: Make) -> None:
    page = assert_clean(report_html(make(energy={}, carbon=None, memory=MemoryUse({}))))
    assert not page.find_all("table")
    assert not page.find_all("ul")
    assert "CO2e unknown" in page.text


def test_unknown_carbon_is_said_once_below_the_line(one_cpu: Report) -> None:
    page = assert_clean(report_html(one_cpu))
    assert page.details is not None
    assert page.details.div is not None
    assert page.details.div.text.count("CO2e unknown") == 1


def test_figures_stay_on_one_line(make: Make) -> None:
    html = report_html(make())
    assert "1.70\N{NO-BREAK SPACE}kJ" in html
    assert 'nowrap">1.67–1.73<' in html


def test_empty_session_says_so() -> None:
    assert assert_clean(table_html([])).text == "No cell has been tracked yet."


def test_long_session_shows_its_end(make: Make) -> None:
    reports = [make(number=n, cell=CellRef(n, n)) for n in range(1, MAX_ROWS + 11)]
    page = assert_clean(table_html(reports))
    assert page.caption is not None
    assert page.tbody is not None
    assert page.caption.text == "510 tracked cells, the latest 500 of 510 rows shown"
    assert len(page.tbody.find_all("tr")) == MAX_ROWS
    assert page.tbody.th is not None
    assert page.tbody.th.text == "11"


def test_foot_has_its_own_section() -> None:
    page = assert_clean(grid_html("c", ("a", "b"), [("1", "x")], foot=[("2", "y")]))
    assert page.tfoot is not None
    assert page.tfoot.text == "2y"
    assert assert_clean(grid_html("c", ("a", "b"), [("1", "x")])).tfoot is None


def test_grid_bundle_sets_figures_flush_right() -> None:
    bundle: dict[str, Any] = grid_bundle("Chats", ("chat", "rows"), [("demo", "3"), ("other", "12")])
    assert bundle["text/plain"] == "Chats\n\nchat   rows\n─────  ────\ndemo      3\nother    12"
    assert bundle["application/vnd.titan.table+json"] == {
        "schema": 1,
        "title": "Chats",
        "columns": ["chat", "rows"],
        "rows": [["demo", "3"], ["other", "12"]],
    }
    page = assert_clean(bundle["text/html"])
    assert [cell.text for cell in page.find_all("td") if not cell.attrs] == ["3", "12"]


def test_a_column_of_figures_may_have_gaps_but_one_of_gaps_alone_has_no_figures() -> None:
    bundle = grid_bundle(
        "Chats", ("chat", "rows", "note"), [("demo", "3", ""), ("other", "", ""), ("x", "12", "")]
    )
    assert bundle["text/plain"].splitlines()[2:] == [
        "chat   rows  note",
        "─────  ────  ────",
        "demo      3",
        "other",
        "x        12",
    ]


def test_empty_grid_bundle_says_so() -> None:
    bundle = grid_bundle("Chats", ("chat", "rows"), [])
    assert bundle["text/plain"] == "Chats: nothing to show."
    assert assert_clean(bundle["text/html"]).text == "Chats: nothing to show."
