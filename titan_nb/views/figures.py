"""What a sum of energy, and the grams and the cost that follow from it, are: a figure or a bound."""

from __future__ import annotations

from titan_nb.records import Carbon, Cost, Energy
from titan_nb.units import (
    UNKNOWN,
    gram_parts,
    grams_at_most,
    joule_parts,
    joules_at_most,
    money_at_most,
    money_parts,
)
from titan_nb.views.plain import plain

__all__ = ["carbon_figure", "cost_figure", "energy_figure", "idle_figure", "is_upper_bound"]


def is_upper_bound(total: Energy) -> bool:
    """Say whether of ``total`` no more is known than that it is not above its high end."""
    return total.grade == "bounded" and not total.low


def energy_figure(total: Energy, partial: bool) -> tuple[str, str]:
    """Return the amount and the interval of a sum.

    The amount begins with ``≥`` if the sum is ``partial``, that is if it misses an unknown device, and with
    ``≤`` if it is an upper bound. An upper bound of some of the devices says nothing about all of them.
    """
    if is_upper_bound(total):
        return (UNKNOWN if partial else joules_at_most(total.high)), ""
    amount, interval = joule_parts(total.joules, total.low, total.high)
    return (f"≥ {amount}" if partial and amount != UNKNOWN else amount), interval


def carbon_figure(carbon: Carbon | None, total: Energy, partial: bool) -> str:
    """Return the grams that follow from ``total``, with the signs of `energy_figure`."""
    if carbon is None:
        return UNKNOWN
    if is_upper_bound(total):
        return UNKNOWN if partial else grams_at_most(carbon.high)
    amount, _ = gram_parts(carbon.grams, carbon.low, carbon.high)
    return f"≥ {amount}" if partial and amount != UNKNOWN else amount


def cost_figure(cost: Cost | None, total: Energy, partial: bool) -> tuple[str, str]:
    """Return the money that follows from ``total`` and its interval, with the signs of `energy_figure`.

    Both are empty where there is no price.
    """
    if cost is None:
        return "", ""
    currency = plain(cost.currency or "", 8)
    if is_upper_bound(total):
        return (UNKNOWN if partial else money_at_most(cost.high, currency)), ""
    amount, interval = money_parts(cost.amount, cost.low, cost.high, currency)
    return (f"≥ {amount}" if partial and amount != UNKNOWN else amount), interval


def idle_figure(part: Energy) -> str:
    """Return what of ``part`` is idle energy, such as ``≈ 84 J``; empty where it is not known."""
    if part.idle_joules is None or is_upper_bound(part):
        return ""
    return f"≈ {joule_parts(part.idle_joules)[0]}"
