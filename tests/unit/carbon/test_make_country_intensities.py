from __future__ import annotations

import csv
from pathlib import Path
from types import ModuleType

import pytest

from titan_nb.carbon import tables

COMMITTED = Path(tables.__file__).with_name("countries.csv")


def committed_rows() -> list[list[str]]:
    lines = [line for line in COMMITTED.read_text("utf-8").splitlines() if not line.startswith("#")]
    return list(csv.reader(lines))


def test_every_row_is_the_wheels(script: ModuleType, wheel: Path) -> None:
    header, *rows = committed_rows()
    assert tuple(header) == script.COLUMNS
    assert [tuple(row) for row in rows] == script.rows(wheel)
    assert len(rows) == 212


def test_the_file_is_what_the_script_writes_byte_for_byte(script: ModuleType, wheel: Path) -> None:
    assert COMMITTED.read_bytes() == script.render(script.rows(wheel)).encode("utf-8")


def test_the_header_names_wheel_checksum_unit_and_licence(script: ModuleType) -> None:
    header = "".join(line for line in COMMITTED.read_text("utf-8").splitlines() if line.startswith("#"))
    for needed in (script.WHEEL, script.SHA256, "CC BY 4.0", "MIT", "Ember", "Our World in Data", "per kWh"):
        assert needed in header


def test_the_run_time_source_names_the_scripts_version(script: ModuleType) -> None:
    assert f"carbontracker {script.VERSION}" in tables.countries()[0].source


def test_another_wheel_is_refused(script: ModuleType, tmp_path: Path) -> None:
    other = tmp_path / script.WHEEL
    other.write_bytes(b"not a wheel")
    with pytest.raises(ValueError, match=r"SHA-256 is [0-9a-f]{64}, not b8339509"):
        script.rows(other)


def test_main_writes_the_table(
    script: ModuleType,
    wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    monkeypatch.setattr(script, "TABLE", tmp_path / "countries.csv")
    script.main(["--wheel", str(wheel)])
    assert (tmp_path / "countries.csv").read_bytes() == COMMITTED.read_bytes()
    assert capsys.readouterr().out == "countries.csv: 212 zones\n"


def test_a_wheel_that_is_there_is_not_fetched_again(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(script.subprocess, "run", lambda command, check: calls.append(command))
    (tmp_path / script.WHEEL).touch()
    assert script.fetch(tmp_path) == tmp_path / script.WHEEL
    assert calls == []
    script.fetch(tmp_path / "empty")
    assert "carbontracker==2.4.7" in calls[0]
    assert "--no-deps" in calls[0]
