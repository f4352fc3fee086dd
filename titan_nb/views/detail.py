"""One report device by device, as short texts, which the text and the HTML view both set."""

from __future__ import annotations

from titan_nb.records import Energy, Report
from titan_nb.units import byte_size, grams, seconds
from titan_nb.views.devices import device_name
from titan_nb.views.devices import kind as device_kind
from titan_nb.views.figures import cost_figure, energy_figure, idle_figure
from titan_nb.views.plain import plain

__all__ = [
    "RIGHT",
    "carbon_line",
    "cost_line",
    "energy_table",
    "facts",
    "kept_line",
    "memory_table",
    "notes",
]

_IDLE = "of which idle"
_NAMES = 5
_ENERGY_TITLES = ("device", "energy", "interval", _IDLE, "grade", "source")
_MEMORY_TITLES = ("device", "before", "peak", "after", "kept", "cached", "others", "how", "source")
RIGHT = frozenset({"energy", _IDLE, "before", "peak", "after", "kept", "cached", "others"})
"""Titles of the columns that hold figures, set flush right."""


def facts(report: Report) -> str:
    """Return when it began and what time it took."""
    # The date and the time to the second, of an ISO 8601 time stamp in UTC.
    started = plain(report.started[:19]).replace("T", " ")
    return f"started {started} UTC, took {seconds(report.seconds)}, CPU time {seconds(report.cpu_seconds)}"


def energy_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return titles, and one row of texts per device; the source comes last."""
    rows = [(device_name(key), *_energy(part)) for key, part in report.energy.items()]
    column = _ENERGY_TITLES.index(_IDLE)
    if any(row[column] for row in rows):
        return _ENERGY_TITLES, rows
    return _without(_ENERGY_TITLES, column), [_without(row, column) for row in rows]


def memory_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return titles, and one row of texts per device.

    What the allocator caches and what others hold have columns where they are known of a device.
    """
    rows: list[tuple[str, ...]] = [
        (
            device_name(key),
            byte_size(part.before_bytes),
            byte_size(part.peak_bytes),
            byte_size(part.after_bytes),
            byte_size(part.kept_bytes, signed=True),
            "" if part.cached_bytes is None else byte_size(part.cached_bytes),
            "" if part.others_bytes is None else byte_size(part.others_bytes),
            part.how,
            plain(part.source, 120),
        )
        for key, part in report.memory.devices.items()
    ]
    titles: tuple[str, ...] = _MEMORY_TITLES
    for title in ("others", "cached"):
        column = titles.index(title)
        if not any(row[column] for row in rows):
            titles, rows = _without(titles, column), [_without(row, column) for row in rows]
    return titles, rows


def kept_line(report: Report) -> str:
    """Return what the cell left behind, by name; empty where nothing was found."""
    kept = report.memory.kept
    shown = [
        f"{plain(one.name, 60)} {byte_size(one.size_bytes)} "
        f"{'of RAM' if device_kind(one.device) == 'RAM' else f'on {device_name(one.device)}'}"
        for one in kept[:_NAMES]
    ]
    more = f" and {len(kept) - _NAMES} more" if len(kept) > _NAMES else ""
    return f"left behind: {', '.join(shown)}{more}" if shown else ""


def carbon_line(report: Report) -> str:
    """Return the grams with their interval, the intensity, and where it comes from.

    Empty where nothing is known and a note says so already.
    """
    carbon = report.carbon
    if carbon is None:
        return "" if any(note.startswith("CO2e unknown") for note in report.notes) else "CO2e unknown"
    where = "" if carbon.zone is None else f" in {plain(carbon.zone, 24)}"
    when = "" if carbon.year is None else f" {carbon.year}"
    amount = grams(carbon.grams, carbon.low, carbon.high)
    kind = "" if carbon.kind == "average" else f", {carbon.kind}"
    pue = "" if carbon.pue == 1 else f" × PUE {carbon.pue:g}"
    # It stands beside the intensity, and need not be said again.
    source = plain(carbon.source.removesuffix(f"; times PUE {carbon.pue:g}"), 160)
    return f"CO2e {amount}, at {carbon.grams_per_kwh:g} g/kWh{kind}{where}{when}{pue} ({source})"


def cost_line(report: Report) -> str:
    """Return the cost with its interval, and the price; empty where there is none."""
    if report.cost is None:
        return ""
    partial = any(part.joules is None for part in report.energy.values())
    amount, interval = cost_figure(report.cost, report.total, partial)
    figure = f"{amount} ({interval})" if interval else amount
    return f"cost {figure}, at {plain(report.cost.source, 160)}"


def notes(report: Report) -> list[str]:
    """Return what else the reader must know, one line each."""
    lines = [*report.notes, *([report.chat] if report.chat else [])]
    if report.budget is not None:
        lines.append(f"budget: {report.budget}")
    if report.shared_window:
        lines.append("shared window: another cell ran at the same time, and its cost cannot be told apart")
    return [plain(note) for note in lines]


def _energy(part: Energy) -> tuple[str, ...]:
    amount, interval = energy_figure(part, partial=False)
    return amount, interval, idle_figure(part), part.grade, plain(part.source, 240)


def _without(cells: tuple[str, ...], column: int) -> tuple[str, ...]:
    return cells[:column] + cells[column + 1 :]
