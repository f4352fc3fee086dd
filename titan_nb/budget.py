"""How much energy, carbon or money may be spent, and whether it has been; pure, no clock and no shell."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from titan_nb.errors import SettingsError
from titan_nb.units import grams, joules

__all__ = [
    "ACTIONS",
    "KINDS",
    "Action",
    "Amount",
    "Budget",
    "Kind",
    "Passed",
    "grams_of",
    "joules_of",
    "limit_of",
    "money_of",
    "text_of",
]

Kind = Literal["energy", "carbon", "cost"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Action = Literal["warn", "stop-before", "interrupt"]
ACTIONS: tuple[Action, ...] = get_args(Action)
"""*warn*: one line under the cell. *stop-before*: no further cell is begun. *interrupt*: as Ctrl-C does."""

_AMOUNT = r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*"
_JOULES = {"mJ": 1e-3, "J": 1.0, "kJ": 1e3, "MJ": 1e6, "Wh": 3600.0, "kWh": 3.6e6}
_GRAMS = {"mg": 1e-3, "g": 1.0, "kg": 1e3}


@dataclass(frozen=True, slots=True)
class Amount:
    """What has been spent of one kind.

    Attributes:
        value: Best estimate in joules, grams or the user's currency; None when unknown.
        low: Lower end of the interval, or None when there is none.
        high: Upper end of the interval, or None when there is none.
        at_least: Whether a part is unknown, so that more than ``value`` may have been spent.
        currency: The currency of a cost; empty for others.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    at_least: bool = False
    currency: str = ""

    def plus(self, other: Amount) -> Amount:
        """Return the sum; an unknown part is left out and said to be."""
        if self.value is None or other.value is None:
            known = other if self.value is None else self
            return Amount(known.value, known.low, known.high, True, known.currency)
        return Amount(
            self.value + other.value,
            # One that comes without an interval is taken as it is.
            (self.value if self.low is None else self.low)
            + (other.value if other.low is None else other.low),
            (self.value if self.high is None else self.high)
            + (other.value if other.high is None else other.high),
            self.at_least or other.at_least,
            self.currency or other.currency,
        )


class Passed(NamedTuple):
    """A limit that has been reached.

    Attributes:
        kind: Of what.
        spent: How much has been spent.
        limit: How much was allowed, in the same unit.
    """

    kind: Kind
    spent: Amount
    limit: float

    def __str__(self) -> str:
        """Return it in words, such as ``5.2 kJ (5.0–5.4) of 5 kJ``."""
        return f"{text_of(self.kind, self.spent)} of {limit_of(self.kind, self.limit, self.spent.currency)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What may be spent by one cell, or by a session.

    Attributes:
        max_joules: Energy in joules; None for no limit.
        max_grams: Greenhouse gas in grams of CO2e; None for no limit.
        max_cost: Money in the currency of the price; None for no limit.
        action: What happens when one of them is reached; see `ACTIONS`.
    """

    max_joules: float | None = None
    max_grams: float | None = None
    max_cost: float | None = None
    action: Action = "warn"

    def __post_init__(self) -> None:
        for name in ("max_joules", "max_grams", "max_cost"):
            value = getattr(self, name)
            if value is None:
                continue
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not (number and math.isfinite(value) and value > 0):
                raise SettingsError(f"{name} is {value!r}: give a number above 0")
        if self.action not in ACTIONS:
            raise SettingsError(f"action is {self.action!r}: give one of {', '.join(ACTIONS)}")

    @property
    def limits(self) -> dict[Kind, float]:
        """The limits that are set, by kind."""
        every: dict[Kind, float | None] = {
            "energy": self.max_joules,
            "carbon": self.max_grams,
            "cost": self.max_cost,
        }
        return {kind: limit for kind, limit in every.items() if limit is not None}

    def passed(self, spent: Mapping[Kind, Amount]) -> tuple[Passed, ...]:
        """Return the limits that ``spent`` reaches by its best estimate; an unknown amount reaches none."""
        return tuple(self._passed(spent))

    def unchecked(self, spent: Mapping[Kind, Amount]) -> tuple[Kind, ...]:
        """Return the kinds that have a limit, and of which ``spent`` knows nothing."""
        return tuple(kind for kind in self.limits if spent.get(kind, Amount()).value is None)

    def _passed(self, spent: Mapping[Kind, Amount]) -> Iterator[Passed]:
        for kind, limit in self.limits.items():
            amount = spent.get(kind, Amount())
            if amount.value is not None and amount.value >= limit:
                yield Passed(kind, amount, limit)


def joules_of(text: str) -> float:
    """Return the joules of a text such as ``5kJ`` or ``0.2 Wh``; a unit must be given.

    Raises:
        SettingsError: If it is no energy above 0.
    """
    return _quantity(text, _JOULES, "an energy such as 500J, 5kJ, 2Wh or 0.1kWh")


def grams_of(text: str) -> float:
    """Return the grams of a text such as ``10g`` or ``1.5 kg``; a unit must be given.

    Raises:
        SettingsError: If it is no mass above 0.
    """
    return _quantity(text, _GRAMS, "a mass of CO2e such as 500mg, 10g or 1.5kg")


def money_of(text: str) -> float:
    """Return the number of a text such as ``0.05``; the currency is that of the price.

    Raises:
        SettingsError: If it is no number above 0.
    """
    return _quantity(text, {"": 1.0}, "a number above 0, in the currency of the price")


def text_of(kind: Kind, amount: Amount) -> str:
    """Return an amount with its interval as text; ``≥`` where a part of it is unknown."""
    if amount.value is None:
        return "unknown"
    if kind == "cost":
        text = f"{amount.value:.3g}"
        if amount.low is not None and amount.high is not None and amount.low < amount.high:
            text += f" ({amount.low:.3g}–{amount.high:.3g})"
        text = f"{text} {amount.currency}".rstrip()
    else:
        text = (joules if kind == "energy" else grams)(amount.value, amount.low, amount.high)
    return f"≥ {text}" if amount.at_least else text


def limit_of(kind: Kind, limit: float, currency: str = "") -> str:
    """Return a limit as text, as short as the user wrote it: ``5 kJ``, not ``5.00 kJ``."""
    if kind == "cost":
        return f"{limit:g} {currency}".rstrip()
    sizes = _JOULES if kind == "energy" else _GRAMS
    fitting = [unit for unit in sizes if "Wh" not in unit and sizes[unit] <= limit]
    unit = fitting[-1] if fitting else next(iter(sizes))
    return f"{limit / sizes[unit]:g} {unit}"


def _quantity(text: str, sizes: Mapping[str, float], wanted: str) -> float:
    found = re.fullmatch(_AMOUNT, text)
    try:
        number, unit = (float(found[1]), found[2]) if found else (math.nan, "")
    except ValueError:  # 1.2.3
        number, unit = math.nan, ""
    size = sizes.get(unit)
    if size is None or not (math.isfinite(number) and number > 0):
        raise SettingsError(f"cannot use {text!r}: give {wanted}")
    return number * size
