from __future__ import annotations

import decimal
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan_nb import units

SIZES = {"mJ": 1e-3, "J": 1.0, "kJ": 1e3, "MJ": 1e6, "GJ": 1e9, "TJ": 1e12}
MASSES = {"mg": 1e-3, "g": 1.0, "kg": 1e3, "t": 1e6, "kt": 1e9}
BINARY = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50, "EiB": 2**60}

plausible = st.floats(min_value=1e-5, max_value=1e14, allow_nan=False)
any_float = st.floats(allow_nan=True, allow_infinity=True)


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def significant(text: str) -> int:
    """Count the significant digits of a printed number; trailing zeros of a whole number do not count."""
    bare = re.sub(r"e[+-].*", "", text.lstrip("−<>-+"))
    digits = bare.replace(".", "").lstrip("0")
    return len(digits if "." in bare else digits.rstrip("0"))


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ((1840, 1790, 1900), "1.84 kJ (1.79–1.90)"),
        ((0.7, 0, 30), "0.7 J (0–30)"),
        ((0.7, 0, 7.1), "700 mJ (0–7100)"),
        ((2000, 1000, 3000), "2 kJ (1–3)"),
        ((0.00031,), "0.31 mJ"),
        ((1840,), "1.84 kJ"),
        ((999.9,), "1.00 kJ"),
        ((999.4,), "999 J"),
        ((0,), "0 J"),
        ((0.0, 0.0, 0.0), "0 J"),
        ((0, 0, 3.1), "0 J (0–3.1)"),
        ((0, 0, 0.004), "0 mJ (0–4)"),
        ((-3.2,), "−3.20 J"),
        ((-3, -5, 1), "−3 J (−5–1)"),
        ((138, 118, 168), "140 J (118–168)"),
        ((138, 138, 138), "138 J"),
        ((141, 141, 168), "141 J (141–168)"),
        ((0.21, 0, 0.21), "200 mJ (0–210)"),
        ((7, 8, 20), "7.00 J (8.0–20.0)"),
        ((1.84, 1.8394, 1.8406), "1.84 J"),
        ((10.2, 9.97, 10.42), "10.2 J (9.9–10.5)"),
        ((1e-9,), "<0.001 mJ"),
        ((-1e-9,), ">−0.001 mJ"),
        ((2000, 1e-9, 3000), "2 kJ (<0.001–3)"),
        ((1e30,), "1.00e+18 TJ"),
        ((3e9,), "3.00 GJ"),
        ((5, None, 6), "5.00 J"),
        ((5, math.nan, 6), "5.00 J"),
        ((None,), "unknown"),
        ((math.nan,), "unknown"),
        ((math.inf, 0, 1), "unknown"),
        ((-math.inf,), "unknown"),
    ],
)
def test_joules_read_as_expected(figures: tuple[float | None, ...], text: str) -> None:
    assert units.joules(*figures) == text


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ((0.21,), "0.21 g"),
        ((0.0999,), "99.9 mg"),
        ((0.0003,), "0.30 mg"),
        ((12.5, 12.4, 12.6), "12.5 g (12.4–12.6)"),
        ((2e6,), "2.00 t"),
        ((0,), "0 g"),
        ((None,), "unknown"),
    ],
)
def test_grams_read_as_expected(figures: tuple[float | None, ...], text: str) -> None:
    assert units.grams(*figures) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.04, "≤ 3.1 J"),
        (3.1, "≤ 3.1 J"),
        (999, "≤ 1.0 kJ"),
        (12345, "≤ 13 kJ"),
        (0, "≤ 0 J"),
        (1e-9, "<0.001 mJ"),
        (None, "unknown"),
        (math.inf, "unknown"),
    ],
)
def test_bound_is_rounded_up(value: float | None, text: str) -> None:
    assert units.joules_at_most(value) == text


def test_bound_in_grams() -> None:
    assert units.grams_at_most(0.000302) == "≤ 0.31 mg"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (1e-7, "<0.001 ms"),
        (0.00042, "0.42 ms"),
        (0.42, "420 ms"),
        (0.9996, "1.00 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (65, "1 min 5 s"),
        (3599.7, "1 h"),
        (7380, "2 h 3 min"),
        (86399, "1 d"),
        (86400 * 3 + 4 * 3600, "3 d 4 h"),
        (-65, "−1 min 5 s"),
        (-0.5, "−500 ms"),
        (None, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_seconds_read_as_expected(value: float | None, text: str) -> None:
    assert units.seconds(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1000, "1.0 KiB"),
        (350 * 2**20, "350 MiB"),
        (6.21 * 2**30, "6.2 GiB"),
        (999.6 * 2**20, "1.0 GiB"),
        (62.34 * 2**30, "62.3 GiB"),
        (99.96 * 2**30, "100 GiB"),
        (-1.1 * 2**30, "−1.1 GiB"),
        (2**80, "1.05e+06 EiB"),
        (None, "unknown"),
        (math.nan, "unknown"),
    ],
)
def test_byte_sizes_read_as_expected(count: float | None, text: str) -> None:
    assert units.byte_size(count) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (2048, "+2.0 KiB"), (-2048, "−2.0 KiB")])
def test_differences_carry_their_sign(count: int, text: str) -> None:
    assert units.byte_size(count, signed=True) == text


@given(any_float, any_float, any_float)
def test_any_floats_give_some_text(value: float, low: float, high: float) -> None:
    for text in (units.joules(value, low, high), units.grams(value, low, high), units.joules_at_most(high)):
        assert text
        assert text == text.strip()
        assert "nan" not in text
        assert "inf" not in text
    assert units.seconds(value)
    assert units.byte_size(value)


@given(plausible)
def test_value_comes_back_within_its_last_digit(joules: float) -> None:
    amount, unit = units.joules(joules).split()
    size = SIZES[unit]
    decimals = len(amount.partition(".")[2])
    half_a_digit = 0.5 * 10**-decimals * size
    # A whole number of three digits or fewer is exact to its last digit.
    assert abs(number(amount) * size - joules) <= half_a_digit * (1 + 1e-9)


@given(plausible, st.floats(min_value=0, max_value=3), st.floats(min_value=0, max_value=3))
def test_interval_shown_holds_the_true_one(joules: float, below: float, above: float) -> None:
    low, high = max(0.0, joules * (1 - below)), joules * (1 + above)
    amount, interval = units.joule_parts(joules, low, high)
    figure, unit = amount.split()
    assert significant(figure) <= 3
    if not interval:
        return
    bottom, top = interval.split("–")
    assert significant(bottom) <= 3
    assert significant(top) <= 3
    size = SIZES[unit]
    assert bottom == "<0.001" or number(bottom) * size <= low * (1 + 1e-9)
    assert number(top) * size >= high * (1 - 1e-9)
    assert (bottom == "0") == (low == 0)
    assert bottom == "<0.001" or number(bottom) <= number(figure) <= number(top)


@given(plausible)
def test_no_more_than_three_digits(value: float) -> None:
    assert significant(units.joules(value).split()[0]) <= 3
    assert significant(units.grams(value).split()[0]) <= 3
    assert significant(units.byte_size(value).split()[0]) <= 3
    assert significant(units.joules_at_most(value).split()[1]) <= 2


@given(plausible, plausible)
def test_more_never_gets_a_smaller_unit(one: float, other: float) -> None:
    less, more = sorted((one, other))
    for write, sizes in ((units.joules, SIZES), (units.grams, MASSES), (units.byte_size, BINARY)):
        assert sizes[write(less).split()[1]] <= sizes[write(more).split()[1]]


@given(plausible)
def test_upper_bound_is_never_below(value: float) -> None:
    _, figure, unit = units.joules_at_most(value).split()
    assert number(figure) * SIZES[unit] >= value * (1 - 1e-9)


@given(st.floats(min_value=1e-300, max_value=1e300))
def test_zero_is_printed_for_zero_alone(value: float) -> None:
    for text in (units.joules(value), units.grams(value), units.seconds(value)):
        assert not re.match(r"[−≤ ]*0(\.0+)? ", text)


@given(st.integers(min_value=0, max_value=2**64))
def test_bytes_come_back_within_the_last_digit(count: int) -> None:
    amount, unit = units.byte_size(count).split()
    decimals = len(amount.partition(".")[2])
    assert abs(float(amount) - count / BINARY[unit]) <= 0.5 * 10**-decimals * (1 + 1e-9)


def test_the_users_decimal_context_is_neither_used_nor_touched() -> None:
    context = decimal.Context(prec=2, traps=[decimal.Inexact, decimal.Rounded])
    with decimal.localcontext(context) as mine:
        texts = [units.joules(1234.5678, 1100, 1300), units.grams(0.123456), units.byte_size(123456789)]
        texts += [units.seconds(3725.4), units.joules_at_most(98.76)]
        assert not any(mine.flags.values())
    assert texts == [
        units.joules(1234.5678, 1100, 1300),
        units.grams(0.123456),
        units.byte_size(123456789),
        units.seconds(3725.4),
        units.joules_at_most(98.76),
    ]


@pytest.mark.parametrize(
    ("figures", "shown"),
    [
        ((0.000669, 0.00057, 0.00076, "EUR"), ("0.00067 EUR", "0.00057–0.00076")),
        ((0.0000669, 0.0000574, 0.000076, "EUR"), ("0.000067 EUR", "0.0000574–0.0000760")),
        ((12.5, 12.5, 12.5, None), ("12.5", "")),
        ((1e-9, 0.0, 2e-9, "EUR"), ("<0.000001 EUR", "0–<0.000001")),
        ((0.0, 0.0, 0.0, "EUR"), ("0 EUR", "")),
        ((None, None, None, "EUR"), ("unknown", "")),
    ],
)
def test_money(
    figures: tuple[float | None, float | None, float | None, str | None], shown: tuple[str, str]
) -> None:
    assert units.money_parts(*figures) == shown


def test_money_at_most() -> None:
    assert units.money_at_most(0.000302, "EUR") == "≤ 0.00031 EUR"
    assert units.money_at_most(3.04) == "≤ 3.1"
    assert units.money_at_most(1e-9, "EUR") == "<0.000001 EUR"
    assert units.money_at_most(None, "EUR") == "unknown"
