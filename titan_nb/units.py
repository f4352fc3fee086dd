"""Figures as short text, with as many digits as their interval supports and never more than three.

One unit serves a value and its interval. Bounds are rounded outwards, so that the text never claims more
than is known. A zero is printed only for an exact zero: what is smaller than the smallest figure shown
reads ``<0.001 mJ``. Whatever is missing or not finite reads ``unknown``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import ParamSpec, TypeVar

__all__ = [
    "UNKNOWN",
    "byte_size",
    "gram_parts",
    "grams",
    "grams_at_most",
    "joule_parts",
    "joules",
    "joules_at_most",
    "money_at_most",
    "money_parts",
    "seconds",
]

UNKNOWN = "unknown"

P = ParamSpec("P")
T = TypeVar("T")

_MINUS = "\N{MINUS SIGN}"
_DASH = "\N{EN DASH}"
_DIGITS = 3
_SMALLEST = Decimal("0.001")
_SMALLEST_MONEY = Decimal("0.000001")
_LARGEST = Decimal(1_000_000)
# From here on a bound has too many digits: it reads better in its own unit, 0.7 J (0–30).
_MANY = 10_000

# Rising: the size from which a unit is used, the size of the unit itself, its name.
_Scale = tuple[tuple[Decimal, Decimal, str], ...]


def _exactly(function: Callable[P, T]) -> Callable[P, T]:
    """Let ``function`` calculate in a context of its own: the user's precision, traps and flags are his."""

    @functools.wraps(function)
    def calculated(*args: P.args, **kwargs: P.kwargs) -> T:
        with localcontext(Context()):
            return function(*args, **kwargs)

    return calculated


def _scale(*units: tuple[str, str, str]) -> _Scale:
    return tuple((Decimal(start), Decimal(size), name) for start, size, name in units)


# Nothing below the millijoule or the milligram: no sensor resolves it.
_JOULES = _scale(
    ("0", "1e-3", "mJ"),
    ("1", "1", "J"),
    ("1e3", "1e3", "kJ"),
    ("1e6", "1e6", "MJ"),
    ("1e9", "1e9", "GJ"),
    ("1e12", "1e12", "TJ"),
)
_GRAMS = _scale(
    ("0", "1e-3", "mg"), ("0.1", "1", "g"), ("1e3", "1e3", "kg"), ("1e6", "1e6", "t"), ("1e9", "1e9", "kt")
)
_SECONDS = _scale(("0", "1e-3", "ms"), ("1", "1", "s"))
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def joules(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Return an energy in joules as text, such as ``1.84 kJ (1.79–1.90)``."""
    return _joined(joule_parts(value, low, high))


def joule_parts(value: float | None, low: float | None = None, high: float | None = None) -> tuple[str, str]:
    """Return ``("1.84 kJ", "1.79–1.90")``; the interval is empty where it adds nothing to the digits."""
    return _parts(value, low, high, _JOULES)


def joules_at_most(high: float | None) -> str:
    """Return an upper bound in joules as text, rounded up to two digits, such as ``≤ 3.1 J``."""
    return _at_most(high, _JOULES)


def grams(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Return a mass in grams as text, such as ``0.21 g (0.20–0.22)``."""
    return _joined(gram_parts(value, low, high))


def gram_parts(value: float | None, low: float | None = None, high: float | None = None) -> tuple[str, str]:
    """Return ``("0.21 g", "0.20–0.22")``; the interval is empty where it adds nothing to the digits."""
    return _parts(value, low, high, _GRAMS)


def grams_at_most(high: float | None) -> str:
    """Return an upper bound in grams as text, rounded up to two digits, such as ``≤ 0.31 mg``."""
    return _at_most(high, _GRAMS)


def money_parts(
    value: float | None, low: float | None = None, high: float | None = None, currency: str | None = None
) -> tuple[str, str]:
    """Return ``("0.00067 EUR", "0.00057–0.00076")``; without a currency the figures stand alone."""
    amount, interval = _parts(value, low, high, _money(currency), _SMALLEST_MONEY)
    return amount.rstrip(), interval


def money_at_most(high: float | None, currency: str | None = None) -> str:
    """Return an upper bound as text, rounded up to two digits, such as ``≤ 0.00031 EUR``."""
    return _at_most(high, _money(currency), _SMALLEST_MONEY).rstrip()


@_exactly
def seconds(value: float | None) -> str:
    """Return a time in seconds as text: ``12.3 s``, ``1 min 5 s``, ``2 h 3 min``, ``3 d 4 h``."""
    number = _number(value)
    if number is None:
        return UNKNOWN
    amount, size, name = _pick(number, None, _SECONDS, number)
    if abs(amount) * size < 60:
        return f"{_text(amount, number / size)} {name}"
    whole = int(abs(number).to_integral_value(ROUND_HALF_EVEN))
    if whole < 3600:
        pieces = (whole // 60, "min", whole % 60, "s")
    elif (minutes := (whole + 30) // 60) < 24 * 60:
        pieces = (minutes // 60, "h", minutes % 60, "min")
    else:
        hours = (minutes + 30) // 60
        pieces = (hours // 24, "d", hours % 24, "h")
    first, first_name, second, second_name = pieces
    text = f"{first} {first_name}" + (f" {second} {second_name}" if second else "")
    return _MINUS + text if number < 0 else text


@_exactly
def byte_size(count: float | None, *, signed: bool = False) -> str:
    """Return a number of bytes as text, such as ``6.2 GiB`` or ``350 MiB``.

    Args:
        count: Bytes.
        signed: Whether a positive number gets a plus sign, for differences.
    """
    if count is None or not math.isfinite(count):
        return UNKNOWN
    amount, power = abs(float(count)), 0
    # From 1000 on the next unit, though it starts at 1024: four digits are one too many.
    while amount >= 999.5 and power < len(_BYTES) - 1:
        amount, power = amount / 1024, power + 1
    if amount >= 999.5:
        text = f"{amount:.3g}"
    else:
        text = f"{amount:.0f}" if power == 0 or amount >= 99.95 else f"{amount:.1f}"
    sign = _MINUS if count < 0 else "+" if signed and count > 0 else ""
    return f"{sign}{text} {_BYTES[power]}"


def _money(currency: str | None) -> _Scale:
    return _scale(("0", "1", currency or ""))


def _joined(parts: tuple[str, str]) -> str:
    amount, interval = parts
    return f"{amount} ({interval})" if interval else amount


def _number(value: float | None) -> Decimal | None:
    # By way of the shortest decimal text of the float, so that 0.145 is not 0.1449999.
    return Decimal(str(float(value))) if value is not None and math.isfinite(value) else None


@_exactly
def _parts(
    value: float | None,
    low: float | None,
    high: float | None,
    scale: _Scale,
    smallest: Decimal = _SMALLEST,
) -> tuple[str, str]:
    number, bottom, top = _number(value), _number(low), _number(high)
    if number is None:
        return UNKNOWN, ""
    if bottom is None or top is None or bottom >= top:
        amount, size, name = _pick(number, None, scale, number)
        return f"{_text(amount, number / size, smallest)} {name}", ""
    # The last digit shown is of the size of half the interval: 1.84 (1.79–1.90), 2 (1–3).
    place = ((top - bottom) / 2).adjusted()
    reference = number or max(abs(bottom), abs(top))
    amount, size, name = _pick(number, place, scale, reference)
    widest = max(abs(bottom), abs(top))
    if widest >= _MANY * size:
        reference = widest
        amount, size, name = _pick(number, place, scale, reference)
    # A value near one end must not be rounded out of its own interval.
    while not bottom <= amount * size <= top and place > number.adjusted() - _DIGITS + 1:
        place -= 1
        amount, size, name = _pick(number, place, scale, reference)
    text = f"{_text(amount, number / size, smallest)} {name}"
    place -= size.adjusted()
    bottom, top = bottom / size, top / size
    if number and _rounded(bottom, place) == _rounded(top, place) == amount:
        return text, ""
    # The bounds get one digit more where they have one, so that rounding outwards widens little.
    if bottom != _rounded(bottom, place) or top != _rounded(top, place):
        place -= 1
    place = max(place, max(abs(bottom), abs(top)).adjusted() - _DIGITS + 1)
    shown = (_rounded(bottom, place, ROUND_FLOOR), _rounded(top, place, ROUND_CEILING))
    bounds = [_text(rounded, bound, smallest) for rounded, bound in zip(shown, (bottom, top), strict=True)]
    return text, _DASH.join(bounds)


@_exactly
def _at_most(high: float | None, scale: _Scale, smallest: Decimal = _SMALLEST) -> str:
    number = _number(high)
    if number is None:
        return UNKNOWN
    amount, size, name = _pick(number, number.adjusted() - 1, scale, number, ROUND_CEILING)
    if len(amount.as_tuple().digits) > 2:
        amount = amount.quantize(Decimal(1).scaleb(_exponent(amount) + 1))  # 0.999 became 1.00
    text = _text(amount, number / size, smallest)
    return f"{text} {name}" if text.startswith("<") else f"≤ {text} {name}"


def _pick(
    number: Decimal, place: int | None, scale: _Scale, reference: Decimal, rounding: str = ROUND_HALF_EVEN
) -> tuple[Decimal, Decimal, str]:
    """Return ``number`` rounded in the unit that suits ``reference``, the size of that unit and its name."""
    if not reference:
        return Decimal(0), Decimal(1), next(name for _, size, name in scale if size == 1)

    def shifted(size: Decimal) -> int | None:
        return None if place is None else place - size.adjusted()

    # Compared after rounding, so that 999.9 J becomes 1.00 kJ and not 1000 J. Every scale starts at 0.
    size, name = next(
        (size, name)
        for start, size, name in reversed(scale)
        # Rounding at most doubles a number, so larger units need not be tried.
        if 2 * abs(reference) >= start
        and abs(_rounded(reference / size, shifted(size), rounding)) * size >= start
    )
    if place is None and abs(number) < size:
        place = (number / size).adjusted() - 1 + size.adjusted()  # 0.31 mJ reads better than 0.310 mJ
    return _rounded(number / size, shifted(size), rounding), size, name


def _rounded(number: Decimal, place: int | None, rounding: str = ROUND_HALF_EVEN) -> Decimal:
    """Round to the digit 10**place, but to one significant digit at least and to three at most."""
    if not number:
        return Decimal(0)
    finest = number.adjusted() - _DIGITS + 1
    exponent = finest if place is None else min(max(place, finest), number.adjusted())
    result = number.quantize(Decimal(1).scaleb(exponent), rounding=rounding)
    if result.adjusted() - exponent >= _DIGITS:  # 9.996 became 10.00
        result = result.quantize(Decimal(1).scaleb(exponent + 1))
    return result


def _exponent(number: Decimal) -> int:
    return int(number.as_tuple().exponent)


def _text(rounded: Decimal, exact: Decimal, smallest: Decimal = _SMALLEST) -> str:
    """Write ``rounded``; ``exact`` tells a true zero from what is only too small to be shown."""
    if exact and abs(exact) < smallest:
        return f"<{smallest:f}" if exact > 0 else f">{_MINUS}{smallest:f}"
    text = f"{rounded:f}" if abs(rounded) < _LARGEST else f"{rounded:.2e}"
    return text.replace("-", _MINUS, 1) if rounded < 0 else text
