from __future__ import annotations

import json

import pytest

from tests.unit.table_scripts import committed, load
from titan_nb.carbon import tables

script = load("make_us_states")


def test_the_table_has_every_state_and_not_the_country() -> None:
    rows = {row[0]: row[1:] for row in script.rows(script.TABLE.fetch())}
    assert len(rows) == 51
    assert rows["US-CA"] == ("California", "2023", "394.769")
    assert rows["US-DC"] == ("District of Columbia", "2023", "395.011")
    assert "US-usa" not in rows


def test_the_header_names_unit_source_and_licences() -> None:
    comments, _ = committed(script.TABLE.path)
    for needed in (
        "public domain",
        "MIT",
        "eGRID2023",
        "Environmental Protection Agency",
        "pounds",
        "per MWh",
    ):
        assert needed in comments


def test_the_run_time_source_names_the_scripts_version() -> None:
    assert f"codecarbon {script.TABLE.version}" in tables.us_states()[0].source


@pytest.mark.parametrize("change", [{"_source": {"name": "a guess"}}, {"_unit": {"emissions": "kg/MWh"}}])
def test_another_source_or_unit_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, object]
) -> None:
    data = {"_source": script.SOURCE, "_unit": {"emissions": "lbs/MWh"}, "usa": {}} | change
    monkeypatch.setattr(type(script.TABLE), "text", lambda table, wheel: json.dumps(data))
    with pytest.raises(ValueError, match="another source or unit"):
        script.rows(script.TABLE.path)
