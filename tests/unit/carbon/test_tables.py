from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from titan_nb.carbon import tables
from titan_nb.errors import SettingsError

HEAD = 'country,region,alternative_name,alpha_2_code,alpha_3_code,un_code,"Emission intensity, kg/MWh"\n'


def clear() -> None:
    tables.eco2ai.cache_clear()
    tables._index.cache_clear()


@pytest.fixture
def _fresh() -> Iterator[None]:
    clear()
    yield
    clear()


def install_eco2ai(monkeypatch: pytest.MonkeyPatch, origin: Path | None) -> None:
    spec = None if origin is None else SimpleNamespace(origin=str(origin))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)


def made_up_eco2ai(monkeypatch: pytest.MonkeyPatch, folder: Path, body: str) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "carbon_index.csv").write_text(HEAD + body, encoding="utf-8")
    install_eco2ai(monkeypatch, folder / "__init__.py")


def test_countries_have_iso_codes_years_and_plausible_figures() -> None:
    zones = tables.countries()
    assert len(zones) == len({zone.code for zone in zones}) == 212
    for zone in zones:
        alpha_2, alpha_3, name = zone.aliases
        assert re.fullmatch("[A-Z]{2}", alpha_2)
        assert re.fullmatch("[A-Z]{3}", alpha_3)
        assert (zone.code, zone.name) == (alpha_2, name)
        assert zone.year is not None
        assert 2000 <= zone.year <= 2025
        assert 0 <= zone.grams_per_kwh < 1400


def test_no_alias_of_the_country_table_is_ambiguous() -> None:
    aliases = {alias.casefold() for zone in tables.countries() for alias in zone.aliases}
    assert tables.by_alias(tables.countries()).keys() == aliases


def test_a_zero_of_the_table_is_kept() -> None:
    zone = tables.find("Central African Republic")
    assert zone is not None
    assert (zone.code, zone.grams_per_kwh) == ("CF", 0.0)


def test_namibia_is_not_in_the_country_table_and_never_taken_for_another() -> None:
    assert tables.find("NA") is None
    assert tables.find("Namibia") is None


def test_us_states_have_iso_codes_and_plausible_figures() -> None:
    states = tables.us_states()
    assert len(states) == 51
    for zone in states:
        assert re.fullmatch("US-[A-Z]{2}", zone.code)
        assert zone.year == 2023
        assert 0 < zone.grams_per_kwh < 1000
    # 394.769 lb/MWh
    assert tables.find("US-CA") == tables.find("us-california") != tables.find("CA")
    assert sum(zone.grams_per_kwh for zone in states if zone.code == "US-CA") == pytest.approx(
        179.0642, abs=1e-4
    )


def test_every_cloud_region_has_the_figure_of_its_zone() -> None:
    regions = tables.cloud_regions()
    assert len({zone.code for zone in regions}) == len(regions) == 115
    assert {zone.code.partition(":")[0] for zone in regions} == set(tables.CLOUDS)
    for region in regions:
        zone = tables.find(region.grid)
        assert zone is not None
        assert zone.code == region.grid
        assert (region.grams_per_kwh, region.year) == (zone.grams_per_kwh, zone.year)
        assert zone.source in region.source


def test_no_alias_of_the_plain_tables_is_ambiguous() -> None:
    plain = (*tables.countries(), *tables.us_states(), *tables.cloud_regions())
    assert tables.by_alias(plain).keys() == {alias.casefold() for zone in plain for alias in zone.aliases}


def test_an_alias_of_two_zones_finds_neither() -> None:
    one = tables.Zone("AA", "Land", ("AA", "Land"), 2020, 1.0, "made up")
    two = tables.Zone("BB", "Land", ("BB", "Land"), 2020, 2.0, "made up")
    assert tables.by_alias([one, two]) == {"aa": one, "bb": two}


def test_the_real_eco2ai_table() -> None:
    zones = tables.eco2ai()
    assert len(zones) == 365
    assert sum("/" not in zone.code for zone in zones) == 209
    assert {zone.code[:9] for zone in zones if "/" in zone.code} == {
        "eco2ai:AU", "eco2ai:CA", "eco2ai:RU", "eco2ai:US",
    }  # fmt: skip
    assert {zone.year for zone in zones} == {None}
    assert all(zone.source.startswith("eco2ai 0.3.") for zone in zones)
    assert "eco2ai" not in sys.modules


@pytest.mark.parametrize(
    ("name", "code", "grams_per_kwh"),
    [
        ("eco2ai:DE", "eco2ai:DE", 332.0),
        ("ECO2AI:us/california", "eco2ai:US/California", 175.62),
        ("eco2ai:United States/California", "eco2ai:US/California", 175.62),
        (" eco2ai: CAN/Quebec ", "eco2ai:CA/Quebec", 1.2),
        ("eco2ai:RU/Bryansk Oblast", "eco2ai:RU/Bryansk Oblast", 240.56),
        ("eco2ai:NA", "eco2ai:NA", 48.077),
        ("eco2ai:World", "eco2ai:WORLD", 436.529),
    ],
)
def test_eco2ai_zones_are_found_when_asked_for(name: str, code: str, grams_per_kwh: float) -> None:
    zone = tables.find(name)
    assert zone is not None
    assert zone.code == code
    assert zone.grams_per_kwh == pytest.approx(grams_per_kwh, abs=0.5)


@pytest.mark.parametrize("name", ["World", "US/California", "NAM", "other:DE", "eco2ai", ":DE", ""])
def test_a_plain_name_never_falls_through_to_eco2ai(name: str) -> None:
    assert tables.find(name) is None


@pytest.mark.usefixtures("_fresh")
def test_eco2ai_rows_are_read_as_they_stand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made_up_eco2ai(
        monkeypatch,
        tmp_path,
        'Namibia,Whole country,N/A,,NAM,516,48.5\nNowhere,North ,"a,b",XX,XXX,1,0.0\n',
    )
    namibia, north = tables.eco2ai()
    assert (namibia.code, namibia.aliases) == ("eco2ai:NA", ("NA", "NAM", "Namibia"))
    assert (north.code, north.name, north.grams_per_kwh) == ("eco2ai:XX/North", "Nowhere/North", 0.0)


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize(
    "body",
    [
        "Nowhere,Whole country,N/A,XX,XXX,1,N/A\n",
        "Nowhere,Whole country,N/A,,XXX,1,5\n",
        "Nowhere\n",
        "A,B,C,D,E,F\n",
    ],
    ids=["no figure", "no code", "short row", "no last field"],
)
def test_an_eco2ai_table_laid_out_otherwise_is_refused_whole(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str
) -> None:
    made_up_eco2ai(monkeypatch, tmp_path, body)
    with pytest.raises(SettingsError, match=r"cannot read eco2ai's table .*carbon_index\.csv"):
        tables.find("eco2ai:XX")


@pytest.mark.usefixtures("_fresh")
def test_a_missing_eco2ai_table_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install_eco2ai(monkeypatch, tmp_path / "__init__.py")
    with pytest.raises(SettingsError, match="FileNotFoundError"):
        tables.eco2ai()


@pytest.mark.usefixtures("_fresh")
def test_without_eco2ai_the_error_says_what_to_install_and_plain_zones_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install_eco2ai(monkeypatch, None)
    with pytest.raises(SettingsError, match="pip install eco2ai"):
        tables.find("eco2ai:DE")
    assert tables.find("DE") is not None
    assert [zone.code for zone in tables.near("Germny")][:1] == ["DE"]
    # A failure is not remembered: installing it in a running kernel is enough.
    monkeypatch.undo()
    assert tables.find("eco2ai:DE") is not None


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("UK", "GB"),
        ("UAE", "AE"),
        ("California", "US-CA"),
        ("US-CAL", "US-CA"),
        ("eu-west-1", "aws:eu-west-1"),
        ("aws:eu-wst-1", "aws:eu-west-1"),
        ("Germny", "DE"),
        ("Brasil", "BR"),
        ("South Kor", "KR"),
        ("NA", "eco2ai:NA"),
        ("World", "eco2ai:WORLD"),
        ("US/California", "eco2ai:US/California"),
        ("eco2ai:US/CA", "eco2ai:US/California"),
        ("eco2ai:Germny", "eco2ai:DE"),
    ],
)
def test_the_likeliest_zone_is_suggested_first(name: str, first: str) -> None:
    near = tables.near(name)
    assert near[0].code == first
    assert len(near) == len(set(near)) <= 3


@pytest.mark.parametrize("name", ["", "eco2ai:", "qqqqqqqqqq", "东京"])
def test_nothing_is_suggested_for_what_resembles_nothing(name: str) -> None:
    assert tables.near(name) == []


def test_importing_the_room_loads_nothing_heavy_and_reads_no_table() -> None:
    code = (
        "import sys, titan_nb.carbon as c;"
        "from titan_nb.carbon import tables as t;"
        "heavy = {'torch', 'numpy', 'pandas', 'matplotlib', 'pynvml', 'eco2ai', 'IPython', 'difflib'};"
        "print(sorted(heavy & set(sys.modules)), t.countries.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] 0\n"


def test_the_table_is_read_from_inside_an_archive(tmp_path: Path) -> None:
    package = Path(tables.__file__).parents[2]
    archive = tmp_path / "titan.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for path in package.rglob("*"):
            if path.suffix in {".py", ".csv"}:
                out.write(path, path.relative_to(package.parent))
    code = "from titan_nb.carbon import tables; print(tables.__file__, len(tables.countries()))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, cwd=tmp_path, env={"PYTHONPATH": str(archive)},
    )  # fmt: skip
    assert "titan.zip" in done.stdout
    assert done.stdout.endswith(" 212\n")
