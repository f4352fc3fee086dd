from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.table_scripts import committed, load


@pytest.fixture(params=["make_country_intensities", "make_cpu_threads", "make_us_states"])
def script(request: pytest.FixtureRequest) -> ModuleType:
    return load(request.param)


def test_the_committed_file_is_what_the_script_makes_of_the_wheel(script: ModuleType) -> None:
    made = script.rows(script.TABLE.fetch())
    assert committed(script.TABLE.path)[1] == [script.TABLE.columns, *made]
    assert script.TABLE.path.read_bytes() == script.TABLE.render(made).encode("utf-8")


def test_the_header_names_wheel_checksum_and_script(script: ModuleType) -> None:
    comments, _ = committed(script.TABLE.path)
    for needed in (script.TABLE.wheel, script.TABLE.sha256, script.TABLE.member, f"{script.__name__}.py"):
        assert needed in comments


def test_another_wheel_is_refused(script: ModuleType, tmp_path: Path) -> None:
    other = tmp_path / script.TABLE.wheel
    other.write_bytes(b"not a wheel")
    with pytest.raises(ValueError, match=rf"SHA-256 is [0-9a-f]{{64}}, not {script.TABLE.sha256}; delete"):
        script.rows(other)


def test_main_writes_the_table(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made.csv"
    elsewhere = dataclasses.replace(script.TABLE, target=str(made))
    elsewhere.main(script.rows, ["--wheel", str(script.TABLE.fetch())])
    assert made.read_bytes() == script.TABLE.path.read_bytes()
    assert capsys.readouterr().out == f"{made}: {len(committed(made)[1]) - 1} rows\n"


def test_a_wheel_that_is_there_is_not_fetched_again(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    (tmp_path / script.TABLE.wheel).touch()
    assert script.TABLE.fetch(tmp_path) == tmp_path / script.TABLE.wheel
    assert calls == []
    script.TABLE.fetch(tmp_path / "empty")
    assert f"{script.TABLE.project}=={script.TABLE.version}" in calls[0]
    assert "--no-deps" in calls[0]
