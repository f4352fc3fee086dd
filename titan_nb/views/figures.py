"""What a sum of energy, and the grams that follow from it, can be said to be: a figure or a bound."""

from __future__ import annotations

from titan_nb.records import Carbon, Energy
from titan_nb.units import UNKNOWN, gram_parts, grams_at_most, joule_parts, joules_at_most

__all__ = ["carbon_figure", "energy_figure", "is_upper_bound"]


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
