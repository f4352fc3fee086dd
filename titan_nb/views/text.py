"""A report, or a session, as plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from titan_nb.records import GRADES, DeviceMemory, Energy, Gap, Report
from titan_nb.units import UNKNOWN, byte_size, seconds
from titan_nb.views import balance, detail, session
from titan_nb.views.devices import by_kind
from titan_nb.views.figures import carbon_figure, cost_figure, energy_figure, is_upper_bound
from titan_nb.views.grid import grid_text, grid_width
from titan_nb.views.plain import plain

__all__ = ["WIDTH", "describe", "line", "table"]

WIDTH = 160
"""Characters that the line of a report may take before it gives up its memory figures."""

_LABEL = 9
_WRAPPED = 100
# What a table gives up to fit, in this order; the HTML and the exports hold all of it.
_GIVEN_UP = ("#", "CPU time", "RAM kept", "label", "interval", "outcome", "cost", "GPU peak", "RAM peak")


def line(report: Report) -> str:
    """Return the report on one line.

    The line gives up, in this order, until it fits `WIDTH`: the RAM peak, what the GPU keeps, the GPU peak.
    Cell, outcome, time, energy with its grades, CO2e, cost and what was stored are never given up.
    """
    first = [_head(report), seconds(report.seconds), *_cost(report)]
    last = [] if report.budget is None else [plain(report.budget, 160)]
    if report.shared_window:
        last.append("shared window")
    if any("simulated" in part.source for part in report.energy.values()):
        last.append("simulated")
    if report.chat:
        last.append(plain(report.chat, 160))
    text = ""
    for memory in _memory_forms(report):
        text = " · ".join([*first, *memory, *last])
        if len(text) <= WIDTH:
            break
    return text


def describe(report: Report) -> str:
    """Return the report device by device, with grades, sources and notes."""
    blocks = [line(report), _wrapped(plain(report.shortage or "", 1000)), detail.facts(report)]
    if report.energy:
        titles, rows = detail.energy_table(report)
        # Whole sentences do not fit in the columns of a terminal.
        blocks.append(grid_text(titles[:-1], [row[:-1] for row in rows], right=detail.RIGHT))
        blocks.append("\n".join(_wrapped(f"{row[0]}: {row[-1]}") for row in rows))
    blocks += [_wrapped(detail.carbon_line(report)), _wrapped(detail.cost_line(report))]
    if report.memory.devices:
        blocks.append(grid_text(*detail.memory_table(report), right=detail.RIGHT))
        blocks.append(_wrapped(detail.kept_line(report)))
    blocks.append("\n".join(_wrapped(f"- {note}") for note in detail.notes(report)))
    return "\n\n".join(filter(None, blocks))


def table(
    reports: Sequence[Report],
    gaps: Sequence[Gap] = (),
    totals: session.SessionTotals | None = None,
    *,
    max_width: int = 100,
) -> str:
    """Return the session as an aligned table, one row a cell.

    Columns that would say nothing are left out. To fit ``max_width`` characters the table gives up, in this
    order: the position in the session, CPU time, what RAM keeps, labels, intervals, outcomes, costs, peaks.

    Args:
        reports: The reports in order; the latest `session.MAX_ROWS` are shown.
        gaps: The gaps to be shown between the cells, with a balance of each counter below; without them
            only their sum is shown, in the last row.
        totals: Sums for the last rows, such as the ledger's.
        max_width: Characters in a line.
    """
    if not reports:
        return "No cell has been tracked yet."
    shown = session.session_table(reports, gaps, totals, label_limit=_LABEL)
    for title in _GIVEN_UP:
        if grid_width(shown.titles, (*shown.body, *shown.foot)) <= max_width:
            break
        shown = shown.without({title})
    text = grid_text(shown.titles, shown.body, right=session.RIGHT, foot=shown.foot)
    blocks = [shown.caption, text]
    if rows := balance.rows(gaps, totals):
        blocks.append(grid_text(balance.TITLES, rows, right=balance.RIGHT))
        blocks += map(_wrapped, balance.notes(totals))
    return "\n\n".join(blocks)


def _head(report: Report) -> str:
    """Return which cell it was and how it ended, such as ``cell 7 'fit' failed: ValueError``."""
    if report.cell is None:
        text = f"block {report.number}"
    else:
        count = report.cell.execution_count
        text = f"cell {report.cell.number if count is None else count}"
    if report.label:
        text += f" '{plain(report.label, 24)}'"
    if report.outcome == "error":
        return f"{text} failed: {plain(report.error, 40)}" if report.error else f"{text} failed"
    return f"{text} interrupted" if report.outcome == "interrupted" else text


def _cost(report: Report) -> list[str]:
    """Return energy, CO2e and cost: ``≥`` where a device is missing, ``≤`` for an upper bound."""
    total, groups = report.total, by_kind(report.energy)
    missing = _missing(groups)
    # The devices that an upper bound holds for are named, so it may stand beside one that is unknown.
    amount, interval = energy_figure(total, bool(missing) and not is_upper_bound(total))
    if amount == UNKNOWN:
        return ["energy and CO2e unknown"]
    energy = f"{amount} ({interval + ', ' if interval else ''}{_grades(groups)})"
    money, _ = cost_figure(report.cost, total, bool(missing))
    if money and report.cost is not None and not report.cost.currency:
        money = f"cost {money}"
    first = [f"{energy}, {missing}" if missing else energy, _carbon(report, bool(missing))]
    return [*first, money] if money else first


def _carbon(report: Report, partial: bool) -> str:
    carbon, amount = report.carbon, carbon_figure(report.carbon, report.total, partial)
    if carbon is None or amount == UNKNOWN:
        return "CO2e unknown"
    where = f"{carbon.grams_per_kwh:g} g/kWh" if carbon.zone is None else plain(carbon.zone, 24)
    return f"{amount} CO2e ({where})" if carbon.year is None else f"{amount} CO2e ({where} {carbon.year})"


def _grades(groups: Mapping[str, list[Energy]]) -> str:
    """Return ``measured GPU, modelled CPU``: the weakest grade of each kind of device.

    RAM is named only where nothing else is known: it is always modelled, and a small part of the whole.
    """
    weakest = {
        kind: max((part.grade for part in parts if part.joules is not None), key=GRADES.index)
        for kind, parts in groups.items()
        if any(part.joules is not None for part in parts)
    }
    if len(weakest) > 1:
        weakest.pop("RAM", None)
    grades = dict.fromkeys(weakest.values())
    return ", ".join(
        f"{grade} {' + '.join(kind for kind, own in weakest.items() if own == grade)}" for grade in grades
    )


def _missing(groups: Mapping[str, list[Energy]]) -> str:
    """Return ``CPU unknown`` or ``1 of 2 GPUs unknown``; empty where every device is known."""
    names = []
    for kind, parts in groups.items():
        unknown = sum(part.joules is None for part in parts)
        if unknown:
            names.append(kind if unknown == len(parts) else f"{unknown} of {len(parts)} {kind}s")
    return f"{', '.join(names)} unknown" if names else ""


def _memory_forms(report: Report) -> Iterator[list[str]]:
    """Yield the memory figures, from all of them to none."""
    groups = by_kind(report.memory.devices)
    gpu, ram = groups.get("GPU", []), groups.get("RAM", [])
    peaks = [_peak("GPU", gpu)] if any(part.peak_bytes for part in gpu) else []
    with_kept = [f"{peaks[0]}{_kept(gpu)}"] if peaks else []
    yield [*with_kept, _peak("RAM", ram)] if ram else with_kept
    yield with_kept
    yield peaks
    yield []


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _WRAPPED, subsequent_indent="    ", break_long_words=False)


def _peak(kind: str, parts: list[DeviceMemory]) -> str:
    name = kind if len(parts) == 1 else f"{len(parts)} {kind}s"
    # Sampling may have missed the peak, never overstated it.
    sign = "≥ " if any(part.how == "sampled" for part in parts) else ""
    return f"{name} peak {sign}{byte_size(sum(part.peak_bytes for part in parts))}"


def _kept(parts: list[DeviceMemory]) -> str:
    """Return ``, +1.1 kept``, with a unit only where it is another one than the peak's."""
    kept = sum(part.kept_bytes for part in parts)
    if not kept:
        return ""
    amount, unit = byte_size(kept, signed=True).split()
    peak_unit = byte_size(sum(part.peak_bytes for part in parts)).split()[1]
    return f", {amount} kept" if unit == peak_unit else f", {amount} {unit} kept"
