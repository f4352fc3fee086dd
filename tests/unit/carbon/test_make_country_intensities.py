from __future__ import annotations

from tests.unit.table_scripts import committed, load
from titan_nb.carbon import tables

script = load("make_country_intensities")


def test_the_table_has_every_zone_of_the_source() -> None:
    rows = {row[0]: row[1:] for row in script.rows(script.TABLE.fetch())}
    assert len(rows) == 212
    assert "NA" not in rows
    assert rows["CF"][-1] == "0.0"


def test_the_header_names_unit_source_and_licences() -> None:
    comments, _ = committed(script.TABLE.path)
    for needed in ("CC BY 4.0", "MIT", "Ember", "Our World in Data", "per kWh"):
        assert needed in comments


def test_the_run_time_source_names_the_scripts_version() -> None:
    assert f"carbontracker {script.TABLE.version}" in tables.countries()[0].source
