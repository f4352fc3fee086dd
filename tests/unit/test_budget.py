from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from titan_nb.budget import KINDS, Amount, Budget, grams_of, joules_of, limit_of, money_of, text_of
from titan_nb.errors import SettingsError
from titan_nb.settings import CarbonConfig, Settings


@pytest.mark.parametrize(
    ("text", "joules"),
    [
        ("500J", 500),
        ("5kJ", 5000),
        (" 5 kJ ", 5000),
        ("2Wh", 7200),
        ("0.1kWh", 360_000),
        ("1e3J", 1000),
        ("1MJ", 1e6),
    ],
)
def test_an_energy_has_a_unit(text: str, joules: float) -> None:
    assert joules_of(text) == pytest.approx(joules)


@pytest.mark.parametrize(
    "text", ["5", "5 kj", "kJ", "", "-5J", "0J", "1.2.3J", "nanJ", "infJ", "1e999J", "5kJ 3J", "5KJ"]
)
def test_what_is_no_energy_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(SettingsError, match=r"cannot use .* give an energy such as 500J, 5kJ"):
        joules_of(text)


def test_grams_and_money() -> None:
    assert grams_of("500mg") == pytest.approx(0.5)
    assert grams_of("1.5 kg") == 1500
    assert money_of("0.05") == 0.05
    with pytest.raises(SettingsError, match="such as 500mg"):
        grams_of("10")
    with pytest.raises(SettingsError, match="currency of the price"):
        money_of("5EUR")


@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, True, "5kJ"])
def test_a_limit_is_a_number_above_zero(value: object) -> None:
    with pytest.raises(SettingsError, match=r"max_joules is .*: give a number above 0"):
        Budget(max_joules=value)  # type: ignore[arg-type]


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(SettingsError, match="action is 'kill': give one of warn, stop-before, interrupt"):
        Budget(max_joules=1, action="kill")  # type: ignore[arg-type]


def test_a_limit_is_reached_by_the_best_estimate() -> None:
    budget = Budget(max_joules=5000, max_grams=10)
    under = {"energy": Amount(4999.0, 4000, 6000), "carbon": Amount(9.0)}
    assert budget.passed(under) == ()  # type: ignore[arg-type]
    (passed,) = budget.passed({"energy": Amount(5200.0, 5000, 5400), "carbon": Amount(9.0)})
    assert (passed.kind, passed.limit) == ("energy", 5000)
    assert str(passed) == "5.2 kJ (5.0–5.4) of 5 kJ"
    both = budget.passed({"energy": Amount(5000.0), "carbon": Amount(11.0)})
    assert [one.kind for one in both] == ["energy", "carbon"]


def test_what_is_unknown_reaches_nothing_and_is_named() -> None:
    budget = Budget(max_joules=1, max_cost=0.1)
    assert budget.passed({"energy": Amount()}) == ()
    assert budget.unchecked({"energy": Amount()}) == ("energy", "cost")
    assert budget.unchecked({"energy": Amount(0.0), "cost": Amount(0.0)}) == ()
    assert Budget().limits == {}


def test_amounts_add_up_with_their_intervals() -> None:
    both = Amount(2.0, 1.0, 3.0).plus(Amount(5.0, 4.0, 7.0))
    assert (both.value, both.low, both.high, both.at_least) == (7.0, 5.0, 10.0, False)
    # A part without an interval is taken as it is.
    mixed = Amount(2.0).plus(Amount(5.0, 4.0, 7.0, currency="EUR"))
    assert (mixed.low, mixed.high, mixed.currency) == (6.0, 9.0, "EUR")


def test_an_unknown_part_makes_the_sum_a_lower_bound() -> None:
    for sum_ in (Amount().plus(Amount(5.0, 4.0, 7.0)), Amount(5.0, 4.0, 7.0).plus(Amount())):
        assert (sum_.value, sum_.low, sum_.high, sum_.at_least) == (5.0, 4.0, 7.0, True)
    assert Amount().plus(Amount()).value is None


def test_amounts_as_text() -> None:
    assert text_of("energy", Amount()) == "unknown"
    assert text_of("energy", Amount(5200.0, 5000, 5400, at_least=True)) == "≥ 5.2 kJ (5.0–5.4)"
    assert text_of("carbon", Amount(12.0)) == "12.0 g"
    assert text_of("cost", Amount(0.0521, 0.05, 0.055, currency="EUR")) == "0.0521 (0.05–0.055) EUR"
    assert text_of("cost", Amount(0.0521)) == "0.0521"
    assert limit_of("energy", 5000) == "5 kJ"
    assert limit_of("energy", 7200) == "7.2 kJ"
    assert limit_of("energy", 0.0005) == "0.5 mJ"
    assert limit_of("energy", 0) == "0 mJ"
    assert limit_of("carbon", 1500) == "1.5 kg"
    assert limit_of("cost", 0.05, "EUR") == "0.05 EUR"
    assert limit_of("cost", 0.05) == "0.05"


@given(st.floats(1e-6, 1e9), st.floats(1e-6, 1e9))
def test_passed_exactly_when_the_estimate_is_not_below_the_limit(limit: float, value: float) -> None:
    budget = Budget(max_joules=limit, max_grams=limit, max_cost=limit)
    passed = budget.passed(dict.fromkeys(KINDS, Amount(value, 0.0, 2 * value)))
    assert len(passed) == (3 if value >= limit else 0)


def test_settings_refuse_a_limit_that_can_never_be_compared() -> None:
    with pytest.raises(SettingsError, match="a limit in grams needs a carbon intensity: set a zone"):
        Settings(budget=Budget(max_grams=10))
    with pytest.raises(SettingsError, match="a limit in grams"):
        Settings(budget=Budget(max_grams=10), carbon=CarbonConfig(zone=" "))
    with pytest.raises(SettingsError, match="a limit in money needs a price"):
        Settings(budget=Budget(max_cost=1), carbon=CarbonConfig(zone="DE"))
    for carbon in (CarbonConfig(zone="DE"), CarbonConfig(grams_per_kwh=0.0)):
        assert Settings(budget=Budget(max_grams=10), carbon=carbon).budget == Budget(max_grams=10)
    assert Settings(budget=Budget(max_cost=1), carbon=CarbonConfig(price_per_kwh=0.3)).budget is not None
