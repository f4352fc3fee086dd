from __future__ import annotations

import dataclasses
import math
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.carbon import (
    Intensity,
    carbon_of,
    refresh,
    resolve,
    tables,
    unknown_note,
    warning,
    world_range,
    zones,
)
from titan_nb.carbon import intensity as intensities
from titan_nb.errors import SettingsError
from titan_nb.records import Energy
from titan_nb.settings import CarbonConfig

joules = st.floats(0, 1e12)
grams_per_kwh = st.floats(0, 5000)


def energy(low: float, mid: float, high: float) -> Energy:
    return Energy(mid, low, high, "measured", "made up")


def intensity(low: float, mid: float, high: float) -> Intensity:
    return Intensity(mid, low, high, "XX", "made up", 2020)


def test_a_country_gives_its_dated_sourced_mean_without_a_made_up_interval() -> None:
    found = resolve(CarbonConfig(zone="de"))
    assert found is not None
    assert (found.zone, found.year) == ("DE", 2024)
    assert found.low == found.grams_per_kwh == found.high == 344.13992
    assert found.source == (
        "Ember / Our World in Data (CC BY 4.0), from carbontracker 2.4.7: yearly mean 2024; hours differ"
    )


def test_eco2ai_is_labelled_and_has_no_year() -> None:
    found = resolve(CarbonConfig(zone="eco2ai:us/california"))
    assert found is not None
    assert (found.zone, found.year, found.grams_per_kwh) == ("eco2ai:US/California", None, 175.62)
    assert found.source.startswith("eco2ai 0.3.")
    assert found.source.endswith("year not stated; hours differ")


@pytest.mark.parametrize("zone", [None, "DE", "no such zone"])
@pytest.mark.parametrize("value", [0, 0.0, 42.5, 5000])
def test_an_explicit_intensity_goes_before_any_zone(zone: str | None, value: float) -> None:
    found = resolve(CarbonConfig(zone=zone, grams_per_kwh=value))
    assert found == Intensity(value, value, value, None, "given by the user", None)


@pytest.mark.parametrize("zone", [None, "", "  "])
def test_no_zone_is_unknown(zone: str | None) -> None:
    assert resolve(CarbonConfig(zone=zone)) is None


PLACES = {
    "LANG": "de_DE.UTF-8",
    "LC_ALL": "fr_FR.UTF-8",
    "TZ": "Europe/Berlin",
    "COUNTRY": "DE",
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
    "GOOGLE_CLOUD_REGION": "europe-west3",
    "CLOUD_ML_REGION": "europe-west3",
    "WEBSITE_SITE_NAME": "site",
    "REGION_NAME": "Germany West Central",
    "AZURE_REGION": "germanywestcentral",
    "TITAN_NB_ZONE": "DE",
    "ELECTRICITYMAPS_API_KEY": "a-key",
}


@pytest.mark.parametrize(
    "variables", [*({one} for one in PLACES), set(PLACES)], ids=lambda names: "+".join(names)
)
def test_without_a_zone_nothing_leads_to_grams_and_the_network_is_not_used(
    monkeypatch: pytest.MonkeyPatch, variables: set[str]
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for one in variables:
        monkeypatch.setenv(one, PLACES[one])
    for config in (CarbonConfig(), CarbonConfig(provider="electricitymaps")):
        refresh(config)
        assert resolve(config) is None
        assert warning(config) is None
        assert unknown_note(energy(1.0, 1.0, 1.0), config).startswith("CO2e unknown: no zone set")


@pytest.mark.parametrize("table", [tables.countries, tables.us_states, tables.cloud_regions, tables.eco2ai])
@pytest.mark.parametrize("change", [str.upper, str.lower, str.title, "  {}\n".format])
def test_every_zone_is_found_by_every_alias_in_any_case(table, change) -> None:
    prefix = "eco2ai:" if table is tables.eco2ai else ""
    for zone in table():
        for alias in zone.aliases:
            found = resolve(CarbonConfig(zone=change(prefix + alias)))
            assert found is not None
            assert (found.zone, found.grams_per_kwh) == (zone.code, zone.grams_per_kwh)


@st.composite
def misspelt(draw: st.DrawFn) -> str:
    """One name of a real zone with one character left out, changed or put in."""
    table, prefix = draw(st.sampled_from([(tables.countries, ""), (tables.eco2ai, "eco2ai:")]))
    name = draw(st.sampled_from([alias for zone in table() for alias in zone.aliases]))
    at = draw(st.integers(0, len(name)))
    return (
        prefix + name[:at] + draw(st.sampled_from(["", "e", "/", " "])) + name[at + draw(st.integers(0, 1)) :]
    )


@settings(deadline=None)  # the first example reads the tables
@given(st.one_of(st.text(max_size=12), misspelt()))
def test_an_unknown_zone_is_an_error_and_every_suggestion_exists(name: str) -> None:
    try:
        found = resolve(CarbonConfig(zone=name))
    except SettingsError as error:
        message = str(error)
        assert "lists them all" in message
        near = tables.near(name)
        assert ("did you mean" in message.removeprefix(f"no zone {name!r}")) == bool(near)
        assert len(near) <= 3
        for zone in near:
            assert f" {zone.code} ({zone.name})" in message
            again = resolve(CarbonConfig(zone=zone.code))
            assert again is not None
            assert again.zone == zone.code
    else:
        assert found is None or found.zone is not None
        assert (found is None) == (name.strip() == "")


def test_the_error_names_near_zones_and_how_to_list_them() -> None:
    with pytest.raises(SettingsError) as caught:
        resolve(CarbonConfig(zone="Germny"))
    message = str(caught.value)
    assert message.startswith("no zone 'Germny' in the table of grid intensities; did you mean DE (Germany)")
    assert "`titan_nb.zones()` lists them all" in message
    assert "\n" not in message


def test_the_error_for_an_eco2ai_zone_lists_that_table() -> None:
    with pytest.raises(SettingsError, match=r"mean eco2ai:US/California .*tables import eco2ai; eco2ai\(\)`"):
        resolve(CarbonConfig(zone="eco2ai:US/Californa"))


def test_the_error_without_a_suggestion_is_a_sentence() -> None:
    with pytest.raises(SettingsError, match=r"intensities\. `titan_nb"):
        resolve(CarbonConfig(zone="qqqqqqqqqq"))


def test_one_kilowatt_hour() -> None:
    carbon = carbon_of(energy(1.8e6, 3.6e6, 7.2e6), intensity(300.0, 400.0, 500.0))
    assert carbon is not None
    assert (carbon.low, carbon.grams, carbon.high) == (150.0, 400.0, 1000.0)
    assert (carbon.grams_per_kwh, carbon.zone, carbon.source, carbon.year) == (400.0, "XX", "made up", 2020)


@given(joules, grams_per_kwh, st.floats(0, 100))
def test_grams_are_linear_in_the_energy_and_in_the_intensity(j: float, g: float, factor: float) -> None:
    once = carbon_of(energy(j, j, j), intensity(g, g, g))
    more = carbon_of(energy(j * factor, j * factor, j * factor), intensity(g, g, g))
    dirtier = carbon_of(energy(j, j, j), intensity(g * factor, g * factor, g * factor))
    assert once is not None
    assert more is not None
    assert dirtier is not None
    for end in ("low", "grams", "high"):
        expected = getattr(once, end) * factor
        assert math.isclose(getattr(more, end), expected, rel_tol=1e-9, abs_tol=1e-300)
        assert math.isclose(getattr(dirtier, end), expected, rel_tol=1e-9, abs_tol=1e-300)


@given(st.lists(joules, min_size=3, max_size=3), st.lists(grams_per_kwh, min_size=3, max_size=3))
def test_the_interval_keeps_its_order_and_holds_every_product_of_the_ends(
    js: list[float], gs: list[float]
) -> None:
    js, gs = sorted(js), sorted(gs)
    carbon = carbon_of(energy(*js), intensity(*gs))
    assert carbon is not None
    assert carbon.low <= carbon.grams <= carbon.high
    for j in js:
        for g in gs:
            assert carbon.low <= j / 3.6e6 * g <= carbon.high


@pytest.mark.parametrize("missing", ["joules", "low", "high"])
def test_unknown_energy_has_no_grams(missing: str) -> None:
    part = dataclasses.replace(energy(1.0, 1.0, 1.0), **{missing: None})
    assert carbon_of(part, intensity(1.0, 1.0, 1.0)) is None
    assert carbon_of(Energy.unknown("no sensor"), intensity(1.0, 1.0, 1.0)) is None


def test_the_world_range_spans_every_zone() -> None:
    low, high = world_range()
    assert (low.zone, low.grams_per_kwh) == ("CF", 0.0)
    assert (high.zone, high.grams_per_kwh) == ("TM", 1306.3036)
    assert all(low.low <= figure <= high.high for _, _, _, figure in zones())


def test_zones_lists_all_countries_and_us_states() -> None:
    listed = zones()
    assert len(listed) == len(tables.countries()) + len(tables.us_states())
    assert ("DE", "Germany", 2024, 344.13992) in listed
    assert ("US-CA", "California, USA", 2023, pytest.approx(179.064, abs=0.001)) in listed
    assert listed == sorted(listed)


@pytest.mark.parametrize(
    ("zone", "region", "why", "offer"),
    [
        (None, None, "no zone set", "set one with --zone or %config TitanMagics.zone"),
        (
            "  ",
            "aws:eu-west-1",
            "no zone set",
            "set one with --zone or %config TitanMagics.zone; this machine looks like aws:eu-west-1",
        ),
        (None, "aws:moon-1", "no zone set", "set one with --zone or %config TitanMagics.zone"),
        (
            "auto",
            None,
            "this machine names no cloud region",
            "set one with --zone or %config TitanMagics.zone",
        ),
        ("Auto", "aws:moon-1", "no figure for aws:moon-1", "set one with --zone or %config TitanMagics.zone"),
        (
            "US-CAL-CISO",
            "aws:eu-west-1",
            "no answer for US-CAL-CISO yet",
            "a country as the zone has a yearly mean at hand",
        ),
    ],
)
def test_the_note_says_why_the_range_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, zone: str | None, region: str | None, why: str, offer: str
) -> None:
    monkeypatch.setattr(intensities, "detect_region", lambda: region)
    config = CarbonConfig(zone=zone, provider="electricitymaps")
    assert resolve(config) is None
    assert unknown_note(energy(1e6, 3.6e6, 7.2e6), config) == (
        f"CO2e unknown: {why} (between 0 g in CF and 2.61 kg in TM over the world's grids); {offer}"
    )


def test_the_range_in_the_note_knows_the_pue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intensities, "detect_region", lambda: None)
    whole = energy(3.6e6, 3.6e6, 3.6e6)
    assert "and 1.31 kg in TM" in unknown_note(whole)
    assert "and 2.61 kg in TM" in unknown_note(whole, CarbonConfig(pue=2))
    assert unknown_note(Energy.unknown("no sensor")) == "CO2e unknown: the energy is unknown"


def test_auto_is_the_cloud_region_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intensities, "detect_region", lambda: "aws:eu-west-1")
    found = resolve(CarbonConfig(zone=" AUTO "))
    ireland = resolve(CarbonConfig(zone="IE"))
    assert found is not None
    assert ireland is not None
    assert (found.zone, found.grams_per_kwh, found.year) == (
        "aws:eu-west-1",
        ireland.grams_per_kwh,
        ireland.year,
    )
    assert found.source == f"the region's zone IE in {ireland.source}"


def test_a_us_state_names_its_basis() -> None:
    found = resolve(CarbonConfig(zone="us-vt"))
    assert found is not None
    assert (found.zone, found.year, found.grams_per_kwh) == (
        "US-VT",
        2023,
        pytest.approx(52.239 * 0.45359237),
    )
    assert found.source == (
        "US EPA eGRID2023 (public domain), emissions at the plants only, from codecarbon 3.3.2: "
        "yearly mean 2023; hours differ"
    )


def test_pue_multiplies_the_grams_and_is_shown_and_unset_it_is_one() -> None:
    part, grid = energy(1.8e6, 3.6e6, 7.2e6), intensity(300.0, 400.0, 500.0)
    unset, one, more = carbon_of(part, grid), carbon_of(part, grid, 1), carbon_of(part, grid, 1.25)
    assert unset == one
    assert more is not None
    assert (more.low, more.grams, more.high, more.pue) == (187.5, 500.0, 1250.0, 1.25)
    assert more.source == "made up; times PUE 1.25"
    assert more.grams_per_kwh == 400.0
    assert CarbonConfig() == CarbonConfig(pue=1)
