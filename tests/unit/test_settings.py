from __future__ import annotations

import dataclasses
import importlib
import json
import math
from pathlib import Path
from typing import Any

import pytest

from titan_nb.errors import SettingsError, TitanError
from titan_nb.settings import PROVIDERS, CarbonConfig, Settings


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


EVERYTHING = CarbonConfig(
    zone="US-CA",
    grams_per_kwh=12.5,
    provider="electricitymaps",
    pue=1.2,
    price_per_kwh={"07:00": 0.35, "00:00": 0.20},
    currency="EUR",
    equivalents=True,
)


def test_nothing_that_costs_or_asks_is_on_by_default() -> None:
    plain = CarbonConfig()
    assert (plain.provider, plain.pue, plain.price_per_kwh, plain.currency, plain.equivalents) == (
        None, 1.0, None, None, False,
    )  # fmt: skip
    assert plain == CarbonConfig(pue=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"provider": "electricitymap"},
            r"provider is 'electricitymap' \(did you mean 'electricitymaps'\?\): give",
        ),
        ({"provider": "watttime"}, "give one of electricitymaps, carbonintensity-uk, energidataservice"),
        ({"provider": 5}, "provider is 5"),
        ({"pue": 0.9}, "pue is 0.9: give a number from 1 to 10"),
        ({"pue": 158}, "pue is 158"),
        ({"pue": math.nan}, "pue is nan"),
        ({"pue": None}, "pue is None"),
        ({"pue": "1.2"}, "pue is '1.2'"),
        ({"currency": 5}, "currency is 5: give a text"),
        ({"equivalents": 1}, "equivalents is 1: give True or False"),
        ({"grams_per_kwh": 10**400}, "grams_per_kwh is 1000"),
        ({"price_per_kwh": -0.1}, "price_per_kwh is -0.1: give a number, 0 or more"),
        ({"price_per_kwh": math.inf}, "price_per_kwh is inf"),
        ({"price_per_kwh": True}, "price_per_kwh is True"),
        ({"price_per_kwh": "0.3"}, "price_per_kwh is '0.3'"),
        ({"price_per_kwh": {}}, r"price_per_kwh is \{\}"),
        ({"price_per_kwh": {"7:00": 0.3}}, "has the time '7:00': give it as HH:MM"),
        ({"price_per_kwh": {"24:00": 0.3}}, "has the time '24:00'"),
        ({"price_per_kwh": {7: 0.3}}, "has the time 7"),
        ({"price_per_kwh": {"07:00": -1}}, "price_per_kwh from 07:00 on is -1"),
        ({"price_per_kwh": {"07:00": None}}, "price_per_kwh from 07:00 on is None"),
    ],
)
def test_a_carbon_setting_that_cannot_be_used_is_refused_by_name_and_value(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        CarbonConfig(**values)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_known_provider_is_taken(provider: str) -> None:
    assert CarbonConfig(provider=provider).provider == provider


def test_a_table_of_prices_is_kept_sorted_and_cannot_be_changed_from_outside() -> None:
    given = {"07:00": 0.35, "00:00": 0.20}
    config = CarbonConfig(price_per_kwh=given)
    given["00:00"] = 99.0
    assert config.price_per_kwh == (("00:00", 0.20), ("07:00", 0.35))
    assert hash(config) == hash(dataclasses.replace(config))
    assert dataclasses.replace(config, currency="EUR").price_per_kwh == config.price_per_kwh


@pytest.mark.parametrize("config", [CarbonConfig(), EVERYTHING, CarbonConfig(price_per_kwh=0.3)])
def test_the_carbon_settings_survive_json(config: CarbonConfig) -> None:
    assert CarbonConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"zonne": "DE"},
            r"no carbon setting 'zonne' \(did you mean 'zone'\?\): there are zone, grams_per_kwh",
        ),
        ({"Price_per_KWh": 1}, "did you mean 'price_per_kwh'"),
        ({"x": 1}, "no carbon setting 'x': there are"),
        ({5: 1}, "no carbon setting 5: there are"),
        ({"pue": 0}, "pue is 0"),
        (["zone"], "give names and values"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_known_one(data: Any, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        CarbonConfig.from_dict(data)


def test_the_environment_is_read_when_asked_and_only_then(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "TITAN_NB_ZONE": " US-CA ",
        "TITAN_NB_GRAMS_PER_KWH": "12.5",
        "TITAN_NB_PROVIDER": "electricitymaps",
        "TITAN_NB_PUE": "1.2",
        "TITAN_NB_PRICE_PER_KWH": '{"00:00": 0.20, "07:00": 0.35}',
        "TITAN_NB_CURRENCY": "EUR",
        "TITAN_NB_EQUIVALENTS": "true",
        "TITAN_NB_DISPLAY": "off",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().carbon == CarbonConfig()
    assert CarbonConfig.from_env() == EVERYTHING
    assert CarbonConfig.from_env({"TITAN_NB_PUE": " ", "TITAN_NB_PRICE_PER_KWH": "0.3"}) == CarbonConfig(
        price_per_kwh=0.3
    )
    assert CarbonConfig.from_env({}) == CarbonConfig()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TITAN_NB_PUE", "high", "TITAN_NB_PUE is 'high': give a number$"),
        ("TITAN_NB_PUE", "0.5", "TITAN_NB_PUE: pue is 0.5"),
        ("TITAN_NB_PRICE_PER_KWH", "30 ct", "'30 ct': give a number, or times and prices in JSON"),
        ("TITAN_NB_EQUIVALENTS", "yes", "'yes': give true or false"),
        ("TITAN_NB_EQUIVALENTS", "1", "TITAN_NB_EQUIVALENTS: equivalents is 1"),
        ("TITAN_NB_PROVIDER", "me", "TITAN_NB_PROVIDER: provider is 'me'"),
        ("TITAN_NB_GRAMS_PER_KWH", "[" * 100_000, "give a number$"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(name: str, value: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        CarbonConfig.from_env({name: value})


TOML = """
[{table}]
zone = "US-CA"
grams_per_kwh = 12.5
provider = "electricitymaps"
pue = 1.2
currency = "EUR"
equivalents = true
[{table}.price_per_kwh]
"00:00" = 0.20
"07:00" = 0.35
"""


@pytest.mark.parametrize(
    ("file", "table"), [("titan_nb.toml", "carbon"), ("pyproject.toml", "tool.titan_nb.carbon")]
)
def test_a_toml_file_is_read(tmp_path: Path, file: str, table: str) -> None:
    path = tmp_path / file
    path.write_text(TOML.format(table=table), encoding="utf-8")
    assert CarbonConfig.from_toml(path) == CarbonConfig.from_toml(str(path)) == EVERYTHING


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("a.toml", None, r"cannot read .*a\.toml: .*No such file"),
        ("a.toml", "[carbon", r"cannot read .*a\.toml: "),
        ("a.toml", "zone = 'DE'", r"a\.toml has no table \[carbon\]: put"),
        ("a.toml", "[tool.titan_nb.carbon]\nzone = 'DE'", r"has no table \[carbon\]"),
        ("pyproject.toml", "[carbon]\nzone = 'DE'", r"has no table \[tool\.titan_nb\.carbon\]"),
        ("pyproject.toml", "tool = 5", "has no table"),
        ("a.toml", "carbon = 5", r"a\.toml: cannot read carbon settings from 5"),
        ("a.toml", "[carbon]\nzonne = 'DE'", r"a\.toml: no carbon setting 'zonne' \(did you mean 'zone'"),
    ],
)
def test_a_toml_file_that_cannot_be_used_is_named(
    tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    path = tmp_path / file
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        CarbonConfig.from_toml(path)


def test_without_a_toml_reader_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SettingsError, match="pip install tomli"):
        CarbonConfig.from_toml("titan_nb.toml")


@pytest.mark.parametrize("name", ["gpu_limit_bytes", "ram_limit_bytes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True, "8GiB"])
def test_a_limit_is_a_whole_number_of_bytes(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"{name} is {value!r}: give a whole number of bytes"):
        Settings(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "value"), [("autocast", "fp8"), ("reclaim", "always")])
def test_a_choice_is_one_of_the_known_ones(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is '{value}': give one of"):
        Settings(**{name: value})  # type: ignore[arg-type]
