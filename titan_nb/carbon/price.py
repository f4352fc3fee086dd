"""What energy costs: the user's own price, the same all day or by time of day."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from titan_nb.records import Cost, Energy
from titan_nb.settings import CarbonConfig

__all__ = ["cost_of"]

_JOULES_PER_KWH = 3.6e6
_DAY = timedelta(days=1)


def cost_of(energy: Energy, config: CarbonConfig, started: datetime, seconds: float) -> Cost | None:
    """Return what ``energy`` cost, or None when there is no price or the energy is unknown.

    amount = joules / 3.6e6 J/kWh x price x PUE. With a table of times the price is the mean over the window,
    by the clock of this machine's time zone, as if the power had been the same all the time.

    Args:
        energy: The energy of the window.
        config: The price, its currency and the PUE.
        started: When the window began; with an offset, or in local time.
        seconds: How long it took.
    """
    price = config.price_per_kwh
    if price is None or energy.joules is None or energy.low is None or energy.high is None:
        return None
    if isinstance(price, (int, float)):
        mean, source = float(price), "given by the user"
    else:
        table = tuple(dict(price).items())
        mean, source = _mean(table, started.timestamp(), seconds), "given by the user by time of day"
    source = f"{mean:.4g} {config.currency or 'currency not set'}/kWh, {source}"
    if config.pue != 1:
        source += f"; times PUE {config.pue:g}"
    return Cost(
        amount=energy.joules / _JOULES_PER_KWH * mean * config.pue,
        low=energy.low / _JOULES_PER_KWH * mean * config.pue,
        high=energy.high / _JOULES_PER_KWH * mean * config.pue,
        currency=config.currency,
        source=source,
    )


def _mean(table: tuple[tuple[str, float], ...], begin: float, seconds: float) -> float:
    """Return the mean price of the ``seconds`` from ``begin`` (Unix time) on."""
    end = begin + max(0.0, seconds)
    total, here = 0.0, begin
    for change in _changes(table, begin, end):
        total += (change - here) * _at(table, here)
        here = change
    if end == begin:
        return _at(table, begin)
    return (total + (end - here) * _at(table, here)) / (end - begin)


def _at(table: tuple[tuple[str, float], ...], moment: float) -> float:
    """Return the price at ``moment``; before the first time of the day the last one still holds."""
    clock = datetime.fromtimestamp(moment).strftime("%H:%M")
    return next((price for time, price in reversed(table) if time <= clock), table[-1][1])


def _changes(table: tuple[tuple[str, float], ...], begin: float, end: float) -> Iterator[float]:
    """Return the moments between ``begin`` and ``end`` at which the price may change, rising.

    An hour that comes twice has its changes twice. On a day on which the clock itself is put forward or back
    every quarter of an hour is a change, since it may be that one.
    """
    day = datetime.fromtimestamp(begin).replace(hour=0, minute=0, second=0, microsecond=0) - _DAY
    last = datetime.fromtimestamp(end) + _DAY
    moments: set[float] = set()
    while day <= last:
        midnight, following = day.timestamp(), (day + _DAY).timestamp()
        if following - midnight != _DAY.total_seconds():
            moments.update(midnight + 900 * quarter for quarter in range(26 * 4))
        for time, _ in table:
            hour, minute = map(int, time.split(":"))
            for fold in (0, 1):
                moments.add(day.replace(hour=hour, minute=minute, fold=fold).timestamp())
        day += _DAY
    return iter(sorted(moment for moment in moments if begin < moment < end))
