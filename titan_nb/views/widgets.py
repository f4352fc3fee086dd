"""The session as a plain widget, with the static table where widgets are not there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from titan_nb.records import Report
from titan_nb.views.bundle import table_bundle
from titan_nb.views.html import table_html
from titan_nb.views.session import SessionTotals, totals_line

__all__ = ["dashboard"]


def dashboard(
    reports_provider: Callable[[], Sequence[Report]],
    totals_provider: Callable[[], SessionTotals | None] = lambda: None,
) -> Any:
    """Return a widget with the session's table, a line of totals and a button that brings both up to date.

    What it displays holds the static table as well, so a saved notebook shows it without the widget.

    Args:
        reports_provider: Called for the reports at once and at each press of the button.
        totals_provider: Called likewise for the totals.

    Raises:
        ImportError: If ipywidgets is not there; show `table_bundle` then.
    """
    import ipywidgets

    button = ipywidgets.Button(description="Refresh", tooltip="Bring the table up to date")
    label = ipywidgets.Label()
    table = ipywidgets.HTML()
    box = ipywidgets.VBox([ipywidgets.HBox([button, label]), table])

    def refresh(_: object = None) -> None:
        reports, totals = reports_provider(), totals_provider()
        label.value = totals_line(reports, totals)
        table.value = table_html(reports, totals=totals)

    def bundle(**_: object) -> dict[str, Any]:
        view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
        return {
            "application/vnd.jupyter.widget-view+json": view,
            **table_bundle(reports_provider(), totals=totals_provider()),
        }

    button.on_click(refresh)
    refresh()
    # On the instance, so that this module loads without ipywidgets; version 7 displays by the second name,
    # which knows no fallback.
    box._repr_mimebundle_ = bundle
    box._ipython_display_ = None
    return box
