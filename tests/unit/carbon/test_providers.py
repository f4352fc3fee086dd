from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.unit.carbon.server import Server
from titan_nb.carbon.provider import Answer, FakeProvider, NullProvider, Provider
from titan_nb.carbon.providers import (
    KEY_VARIABLE,
    CarbonIntensityUK,
    ElectricityMaps,
    EnergiDataService,
    by_name,
)
from titan_nb.carbon.web import NoAnswer
from titan_nb.settings import PROVIDERS

# The examples of the three documentations.
MAPS = {
    "zone": "DE",
    "carbonIntensity": 302,
    "datetime": "2018-04-25T18:07:00.350Z",
    "updatedAt": "2018-04-25T18:07:01.000Z",
    "emissionFactorType": "lifecycle",
    "isEstimated": True,
    "estimationMethod": "TIME_SLICER_AVERAGE",
}
HALF_HOUR = {
    "from": "2018-01-20T12:00Z",
    "to": "2018-01-20T12:30Z",
    "intensity": {"forecast": 266, "actual": 263, "index": "moderate"},
}
DK1 = {"Minutes5UTC": "2019-12-16T04:40:00", "PriceArea": "DK1", "CO2Emission": 121.0}
DK2 = {"Minutes5UTC": "2019-12-16T04:40:00", "PriceArea": "DK2", "CO2Emission": 125.0}


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=timezone.utc)  # type: ignore[misc, arg-type]


def ask(server: Server, kind: type[Any], grid: str, body: object) -> Answer:
    server.body = json.dumps(body).encode()
    answer: Answer = kind(server.base, timeout=5).fetch(grid)
    return answer


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, " a-key ")


def test_electricity_maps(server: Server) -> None:
    answer = ask(server, ElectricityMaps, "DE", MAPS)
    assert answer == Answer(
        302, 302, 302, utc(2018, 4, 25, 18, 7, 0, 350_000), "CO2e of what is consumed, life cycle, estimated"
    )
    (path,) = server.paths
    assert urlsplit(path).path == "/v3/carbon-intensity/latest"
    assert parse_qs(urlsplit(path).query) == {"zone": ["DE"], "emissionFactorType": ["lifecycle"]}
    assert server.keys == ["a-key"]
    measured = ask(server, ElectricityMaps, "DE", {**MAPS, "isEstimated": False})
    assert measured.says == "CO2e of what is consumed, life cycle"


def test_electricity_maps_asks_nothing_without_a_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("", " "):
        monkeypatch.setenv(KEY_VARIABLE, value)
        with pytest.raises(NoAnswer, match=KEY_VARIABLE):
            ask(server, ElectricityMaps, "DE", MAPS)
    assert server.paths == []


def test_an_answer_for_the_place_of_the_caller_is_refused(server: Server) -> None:
    with pytest.raises(NoAnswer, match="answered for 'FR' instead of DE"):
        ask(server, ElectricityMaps, "DE", {**MAPS, "zone": "FR"})


def test_direct_factors_are_refused(server: Server) -> None:
    with pytest.raises(NoAnswer, match="'direct' factors"):
        ask(server, ElectricityMaps, "DE", {**MAPS, "emissionFactorType": "direct"})


def test_great_britain(server: Server) -> None:
    answer = ask(server, CarbonIntensityUK, "GB", {"data": [HALF_HOUR]})
    assert (answer.grams_per_kwh, answer.at) == (263, utc(2018, 1, 20, 12, 0))
    assert "estimate of the half hour" in answer.says
    assert server.paths == ["/intensity"]
    assert server.keys == [None]


def test_where_the_half_hour_is_not_known_yet_its_forecast_is_taken_and_named(server: Server) -> None:
    period = {**HALF_HOUR, "intensity": {"forecast": 266, "actual": None, "index": "moderate"}}
    answer = ask(server, CarbonIntensityUK, "GB", {"data": [period]})
    assert answer.grams_per_kwh == 266
    assert "forecast for the half hour" in answer.says


def test_denmark_spans_its_two_areas(server: Server) -> None:
    answer = ask(server, EnergiDataService, "DK", {"records": [DK2, DK1]})
    assert (answer.low, answer.grams_per_kwh, answer.high) == (121, 123, 125)
    assert answer.at == utc(2019, 12, 16, 4, 40)
    assert "mean of the areas DK1 and DK2" in answer.says
    query = parse_qs(urlsplit(server.paths[0]).query)
    assert json.loads(query["filter"][0]) == {"PriceArea": ["DK1", "DK2"]}
    assert query["limit"] == ["2"]


def test_one_danish_area(server: Server) -> None:
    answer = ask(server, EnergiDataService, "DK-DK2", {"records": [DK2]})
    assert (answer.low, answer.grams_per_kwh, answer.high) == (125, 125, 125)
    assert "mean" not in answer.says
    with pytest.raises(NoAnswer, match="did not answer for DK1"):
        ask(server, EnergiDataService, "DK-DK1", {"records": [DK2]})


@pytest.mark.parametrize(
    ("kind", "grid", "body", "reason"),
    [
        (ElectricityMaps, "DE", [], "not laid out"),
        (ElectricityMaps, "DE", "no", "not laid out"),
        (ElectricityMaps, "DE", {"error": "Zone not found"}, "answered for None"),
        (ElectricityMaps, "DE", {**MAPS, "carbonIntensity": None}, "no number carbonIntensity"),
        (ElectricityMaps, "DE", {**MAPS, "carbonIntensity": "302"}, "no number carbonIntensity"),
        (ElectricityMaps, "DE", {**MAPS, "carbonIntensity": True}, "no number carbonIntensity"),
        (ElectricityMaps, "DE", {**MAPS, "carbonIntensity": 10**400}, "too large"),
        (ElectricityMaps, "DE", {**MAPS, "datetime": None}, "no time, but None"),
        (ElectricityMaps, "DE", {**MAPS, "datetime": "today"}, "no time, but 'today'"),
        (ElectricityMaps, "DE", {**MAPS, "unit": "lb/MWh"}, "in 'lb/MWh' instead of grams"),
        (ElectricityMaps, "DE", {**MAPS, "units": {"co2": "g"}}, "instead of grams"),
        (CarbonIntensityUK, "GB", {}, "has no data"),
        (CarbonIntensityUK, "GB", {"data": []}, "has no data"),
        (CarbonIntensityUK, "GB", {"data": {"from": ""}}, "has no data"),
        (CarbonIntensityUK, "GB", {"data": [3]}, "not laid out"),
        (CarbonIntensityUK, "GB", {"data": [{"from": "2018-01-20T12:00Z"}]}, "not laid out"),
        (CarbonIntensityUK, "GB", {"data": [{**HALF_HOUR, "intensity": {}}]}, "no number forecast"),
        (EnergiDataService, "DK", {"records": []}, "has no records"),
        (EnergiDataService, "DK", {"records": [DK1, DK1]}, "did not answer for DK1 and DK2"),
        (EnergiDataService, "DK", {"records": [DK1, None]}, "not laid out"),
        (EnergiDataService, "DK", {"records": [DK1, {**DK2, "CO2Emission": None}]}, "no number CO2Emission"),
        (EnergiDataService, "DK-DK1", {"records": [{**DK1, "Minutes5UTC": 5}]}, "no time, but 5"),
    ],
)
def test_an_answer_laid_out_otherwise_is_refused(
    server: Server, kind: type[Any], grid: str, body: object, reason: str
) -> None:
    with pytest.raises(NoAnswer, match=reason):
        ask(server, kind, grid, body)


def test_a_unit_in_grams_is_taken_and_a_time_with_an_offset_becomes_utc(server: Server) -> None:
    body = {**MAPS, "unit": "gCO2eq/kWh", "datetime": "2018-04-25T20:07:00+02:00"}
    assert ask(server, ElectricityMaps, "DE", body).at == utc(2018, 4, 25, 18, 7)
    assert ask(server, ElectricityMaps, "DE", body).at.utcoffset() == utc(2018, 1, 1).utcoffset()


@pytest.mark.parametrize(
    ("kind", "yes", "no"),
    [
        (ElectricityMaps, ["DE", "US", "US-CAL-CISO", "DK-DK1", "AU-NSW"], ["US-CA", "eco2ai:DE", "", "de"]),
        (CarbonIntensityUK, ["GB"], ["IE", "GB-1", ""]),
        (EnergiDataService, ["DK", "DK-DK1", "DK-DK2"], ["DE", "DK1", ""]),
        (NullProvider, [], ["DE", ""]),
    ],
)
def test_each_says_what_it_covers(kind: type[Provider], yes: list[str], no: list[str]) -> None:
    provider = kind()
    assert [grid for grid in (*yes, *no) if provider.covers(grid)] == yes


def test_every_name_of_the_settings_is_a_provider_over_https() -> None:
    found = [by_name(name) for name in PROVIDERS]
    assert [type(one) for one in found] == [ElectricityMaps, CarbonIntensityUK, EnergiDataService]
    assert all(one._base.startswith("https://") and one._timeout == 10 for one in found)  # type: ignore[attr-defined]
    assert isinstance(by_name(None), NullProvider)


def test_nobody_answers_nothing() -> None:
    with pytest.raises(NoAnswer):
        NullProvider().fetch("DE")


def test_the_fake_gives_its_answers_in_turn_and_then_the_last_again() -> None:
    one, two = (Answer(value, value, value, utc(2020, 1, 1), "made up") for value in (1.0, 2.0))
    fake = FakeProvider([one, NoAnswer("off"), two])
    assert fake.covers("DE")
    assert fake.fetch("DE") == one
    with pytest.raises(NoAnswer, match="off"):
        fake.fetch("DE")
    assert [fake.fetch("DE"), fake.fetch("DE")] == [two, two]
    assert fake.asked == ["DE"] * 4
