from __future__ import annotations

import math
from typing import Any

import pytest

from titan_nb.errors import SettingsError, TitanError
from titan_nb.settings import CarbonConfig, Settings


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 5001.0, True, "475"])
def test_an_impossible_intensity_is_refused_by_value(value: float) -> None:
    with pytest.raises(SettingsError, match=r"grams_per_kwh is .*0 to 5000") as caught:
        CarbonConfig(grams_per_kwh=value)
    assert isinstance(caught.value, TitanError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [0.0, 1, 475.0, 5000])
def test_a_possible_intensity_is_taken(value: float) -> None:
    assert CarbonConfig(grams_per_kwh=value).grams_per_kwh == value


@pytest.mark.parametrize("settings", [{"label": 5}, {"chat": b"id"}])
def test_a_text_must_be_a_text(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="give a text"):
        Settings(**settings)
    with pytest.raises(SettingsError, match="zone is 5: give a text"):
        CarbonConfig(zone=5)  # type: ignore[arg-type]


def test_nothing_is_assumed_about_the_country() -> None:
    assert Settings().carbon == CarbonConfig(zone=None, grams_per_kwh=None)


def test_replace_leaves_the_original_alone() -> None:
    settings = Settings(label="a")
    assert settings.replace(label="b") == Settings(label="b")
    assert settings.label == "a"
