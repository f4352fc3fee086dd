from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import ipywidgets
import pytest
from IPython.core.formatters import DisplayFormatter

from titan_nb.ledger import Totals
from titan_nb.records import CellRef, Report
from titan_nb.views.bundle import TABLE_MIME
from titan_nb.views.html import table_html
from titan_nb.views.text import table
from titan_nb.views.widgets import dashboard

Make = Callable[..., Report]
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(autouse=True)
def _no_widget_is_left() -> Iterator[None]:
    yield
    ipywidgets.Widget.close_all()


def test_dashboard_shows_table_and_totals(session: list[Report], totals: Totals) -> None:
    box = dashboard(lambda: session, lambda: totals)
    (button, label), html = box.children[0].children, box.children[1]
    assert button.description == "Refresh"
    assert label.value.startswith("6 tracked cells · 2 failed")
    assert html.value == table_html(session, totals=totals)


def test_refresh_shows_what_came_since(make: Make) -> None:
    reports = [make(number=1, cell=CellRef(1, 1))]
    box = dashboard(lambda: reports)
    (button, label), html = box.children[0].children, box.children[1]
    assert label.value == "1 tracked cell"
    reports.append(make(number=2, cell=CellRef(2, 2), label="<b>new</b>"))
    assert "new" not in html.value
    button.click()
    assert label.value == "2 tracked cells"
    assert "&lt;b&gt;new" in html.value


def test_display_holds_the_static_table_too(session: list[Report], totals: Totals) -> None:
    box = dashboard(lambda: session, lambda: totals)
    data, _ = DisplayFormatter().format(box)
    assert data[WIDGET_MIME]["model_id"] == box.model_id
    assert data["text/html"] == table_html(session, totals=totals)
    assert data["text/plain"] == table(session, totals=totals)
    assert data[TABLE_MIME]["total_reports"] == 7


def test_dashboard_without_cells() -> None:
    box = dashboard(list)
    assert "No cell has been tracked yet." in box.children[1].value


def test_without_ipywidgets_the_caller_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with pytest.raises(ImportError):
        dashboard(list)


def test_views_load_nothing_heavy() -> None:
    code = (
        "import sys, titan_nb.units, titan_nb.views.widgets, titan_nb.views.bundle, titan_nb.views.table, "
        "titan_nb.views.simulated\n"
        "heavy = {'ipywidgets', 'torch', 'pandas', 'numpy', 'matplotlib', 'IPython', 'pynvml'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
