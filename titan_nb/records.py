"""The frozen data that flow through titan, with units in their names.

All of them are immutable, know nothing but sums of themselves, and survive a round trip through JSON:
``Report.from_dict(json.loads(json.dumps(report.to_dict()))) == report``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from titan_nb.errors import SettingsError

__all__ = [
    "GRADES",
    "SCHEMA",
    "Carbon",
    "CellRef",
    "Cost",
    "DeviceMemory",
    "Energy",
    "Gap",
    "Grade",
    "How",
    "Kept",
    "Measurement",
    "MemoryUse",
    "Outcome",
    "Report",
]

SCHEMA = 1
"""Number of the JSON layout; raised whenever a reader of the old one would be misled."""

Grade = Literal["measured", "shared", "bounded", "modelled", "unknown"]
GRADES: tuple[Grade, ...] = ("measured", "shared", "bounded", "modelled", "unknown")
"""From the strongest to the weakest.

*measured*: a counter, ours alone. *shared*: a counter times our share. *bounded*: shorter than a tick of
the counter, so an upper bound. *modelled*: no sensor, a named model. *unknown*: nothing can be said.
"""

Outcome = Literal["ok", "error", "interrupted"]
How = Literal["exact", "sampled", "shared window"]


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy that one device used in one window.

    Attributes:
        joules: Best estimate in joules; None when unknown.
        low: Lower end of the interval in joules; None when unknown.
        high: Upper end of the interval in joules; None when unknown.
        grade: How far the figure can be trusted; see `GRADES`.
        source: Which counter or model it comes from, or why it is unknown.
        idle_joules: What of ``joules`` the device would have used with nobody at work; None when unknown.
    """

    joules: float | None
    low: float | None
    high: float | None
    grade: Grade
    source: str
    idle_joules: float | None = None

    @classmethod
    def unknown(cls, why: str) -> Energy:
        """Return the energy of a device of which nothing can be said, with the reason."""
        return cls(None, None, None, "unknown", why)

    @classmethod
    def sum(cls, parts: Mapping[str, Energy]) -> Energy:
        """Add up the known devices of ``parts``; the grade is the weakest one among them.

        With nothing known at all the sum is unknown. Unknown devices are named in the source.
        """
        known = {key: part for key, part in parts.items() if part.joules is not None}
        missing = [key for key in parts if key not in known]
        if not known:
            return cls.unknown("; ".join(f"{key}: {parts[key].source}" for key in missing) or "no device")
        source = " + ".join(known)
        if missing:
            source += f" (without {', '.join(missing)}: unknown)"
        return cls(
            joules=sum(part.joules or 0.0 for part in known.values()),
            low=sum(part.low or 0.0 for part in known.values()),
            high=sum(part.high or 0.0 for part in known.values()),
            grade=max((part.grade for part in known.values()), key=GRADES.index),
            source=source,
            idle_joules=_sum(part.idle_joules for part in known.values()),
        )


def _sum(parts: Iterable[float | None]) -> float | None:
    """Return the sum of the parts that are known; None when none is."""
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the meter saw in one window.

    Attributes:
        seconds: Wall time of the window in seconds.
        cpu_seconds: CPU time of this process and its children in seconds.
        energy: Energy by device key.
        warnings: One line for each thing that went wrong with a sensor; empty as a rule.
    """

    seconds: float
    cpu_seconds: float
    energy: Mapping[str, Energy]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Memory of one device before, at the peak of, and after a window.

    Attributes:
        before_bytes: In use when the window opened.
        peak_bytes: The most in use while it was open.
        after_bytes: In use when it closed.
        how: *exact* (a high-water mark), *sampled* (a peak may have been missed), or *shared window*
            (exact, but another cell ran at the same time and cannot be told apart).
        source: Which mark or counter it comes from.
        cached_bytes: At the end, what the allocator held and no tensor used; None on the host.
        others_bytes: At the end, what others held on the device: other processes, the driver, libraries
            beside torch; None on the host and where the driver does not say.
    """

    before_bytes: int
    peak_bytes: int
    after_bytes: int
    how: How
    source: str
    cached_bytes: int | None = None
    others_bytes: int | None = None

    @property
    def kept_bytes(self) -> int:
        """What the window left behind; negative when it gave memory back."""
        return self.after_bytes - self.before_bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """What a window left behind under one name.

    Attributes:
        name: Who holds it, such as ``model.encoder`` or ``Out[7]``.
        device: The device key.
        size_bytes: How much is new under that name; a storage with several names counts for the first.
    """

    name: str
    device: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Memory of one window by device key (``ram:...`` for this process, ``gpu:<UUID>`` for a GPU).

    Attributes:
        devices: What each device held.
        kept: What the window left behind, by name, the largest first; empty where it was not looked for.
    """

    devices: Mapping[str, DeviceMemory]
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True)
class Carbon:
    """Greenhouse gas of one window.

    Attributes:
        grams: Best estimate in grams of CO2 equivalent.
        low: Lower end of the interval in grams.
        high: Upper end of the interval in grams.
        grams_per_kwh: The intensity used, in g CO2e per kWh.
        zone: The zone whose intensity it is, or None when the user gave the intensity.
        source: Where the intensity comes from.
        year: The year of the intensity, or None when it has none.
        pue: Power usage effectiveness of the data centre, by which the grams are already multiplied.
        kind: *average* or *marginal*, of the intensity.
    """

    grams: float
    low: float
    high: float
    grams_per_kwh: float
    zone: str | None
    source: str
    year: int | None
    pue: float = 1.0
    kind: Literal["average", "marginal"] = "average"


@dataclass(frozen=True, slots=True)
class Cost:
    """What the energy of one window cost.

    Attributes:
        amount: Best estimate, in ``currency``.
        low: Lower end of the interval.
        high: Upper end of the interval.
        currency: What the user calls his currency, such as ``EUR``; None when he did not say.
        source: The price that was used, and where it comes from.
    """

    amount: float
    low: float
    high: float
    currency: str | None
    source: str


@dataclass(frozen=True, slots=True)
class CellRef:
    """Which cell it was.

    Attributes:
        number: titan's own count of the cells it saw in this shell, from 1.
        execution_count: The number in ``In [n]``; None where the cell was run without history.
        cell_id: The front end's id of the cell; None where it sent none (terminal, nbclient, papermill).
    """

    number: int
    execution_count: int | None = None
    cell_id: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What one cell, or one ``with track()`` block, cost.

    Attributes:
        number: Position in the session's ledger, from 1.
        cell: The cell; None outside IPython.
        label: The user's own name for it.
        outcome: *ok*, *error* or *interrupted*.
        error: Name of the exception's class; None when there was none.
        started: Start in UTC, ISO 8601.
        seconds: Wall time in seconds.
        cpu_seconds: CPU time of this process and its children in seconds.
        energy: Energy by device key.
        carbon: Greenhouse gas, or None when the zone is unknown.
        memory: Memory by device key.
        notes: One line for each thing the reader must know: what is unknown and why, what was stored.
        chat: What was put into the chat memory, in words; None when the cell did not ask for it.
        parent: Number of the report of the window around this one; None for an outermost window.
        shared_window: Whether another window was open in another thread at the same time.
        budget: What there is to say of a budget, such as ``stopped: 5.2 kJ of 5 kJ``; None as a rule.
        cost: What the energy cost, or None when no price is known.
        shortage: Where memory was short: the limit, what was asked for, what was given back; None as a rule.
    """

    number: int
    cell: CellRef | None
    label: str | None
    outcome: Outcome
    error: str | None
    started: str
    seconds: float
    cpu_seconds: float
    energy: Mapping[str, Energy]
    carbon: Carbon | None
    memory: MemoryUse
    notes: tuple[str, ...] = ()
    chat: str | None = None
    parent: int | None = None
    shared_window: bool = False
    budget: str | None = None
    cost: Cost | None = None
    shortage: str | None = None

    @property
    def total(self) -> Energy:
        """The sum over the known devices; see `Energy.sum`."""
        return Energy.sum(self.energy)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts, lists, strings and numbers, ready for JSON."""
        data: dict[str, Any] = _as_dict(self)
        data["notes"] = list(self.notes)
        memory = data["memory"]
        data["memory"], data["kept"] = memory["devices"], [_as_dict(one) for one in memory["kept"]]
        return {"schema": SCHEMA, **data}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Report:
        """Rebuild a report from `to_dict`.

        Raises:
            SettingsError: If ``data`` was written by another layout than this version reads, or by none.
        """
        try:
            values = dict(data)
            schema = values.pop("schema", None)
        except (TypeError, ValueError):
            raise SettingsError(f"cannot read a report from {data!r}: give what to_dict returned") from None
        if schema != SCHEMA:
            raise SettingsError(
                f"cannot read a report of layout {schema!r}: this version of titan_nb reads layout {SCHEMA}; "
                "update titan_nb, or write the report again"
            )
        try:
            cell, carbon = values["cell"], values["carbon"]
            values["cell"] = None if cell is None else CellRef(**cell)
            values["carbon"] = None if carbon is None else Carbon(**carbon)
            cost = values.get("cost")
            values["cost"] = None if cost is None else Cost(**cost)
            values["energy"] = {key: Energy(**part) for key, part in values["energy"].items()}
            values["memory"] = MemoryUse(
                {key: DeviceMemory(**part) for key, part in values["memory"].items()},
                tuple(Kept(**one) for one in values.pop("kept", ())),
            )
            values["notes"] = tuple(values["notes"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise SettingsError(f"cannot read a report: {error}; give what to_dict returned") from None


def _as_dict(value: Any) -> Any:
    """Return what `dataclasses.asdict` returns of a record, without copying what cannot change."""
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        return {name: _as_dict(getattr(value, name)) for name in fields}
    if isinstance(value, Mapping):
        return {key: _as_dict(part) for key, part in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class Gap:
    """The time between two outermost windows, which no cell owns.

    Attributes:
        after: Number of the report before the gap.
        before: Number of the report after the gap; the same number stands for a window that was dropped,
            which has no report.
        seconds: Length in seconds.
        energy: Energy by device key, of devices that have a counter; models have none and are left out.
    """

    after: int
    before: int
    seconds: float
    energy: Mapping[str, Energy] = field(default_factory=dict)
