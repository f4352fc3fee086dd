from __future__ import annotations

import dataclasses
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml import FakeGpu, FakeNvml
from titan_nb.energy.calibration import Calibration, config_folder, load_calibrations, save_calibration
from titan_nb.errors import SettingsError

MADE_UP: dict[str, Any] = {
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-00000000-0000-4000-8000-000000000000",
    "driver": "1.2.3",
    "date": "2026-01-02T03:04:05+00:00",
    "load": "made up",
    "steady_seconds": 30.0,
    "reduced": False,
    "tick_seconds": 0.1,
    "jitter_seconds": 0.001,
    "idle_tick_seconds": None,
    "timestamp_moves_with_ticks": True,
    "duty": 0.5,
    "duty_why": "made up",
    "bursts": 100,
    "burst_scatter": 0.4,
    "burst_scatter_part_time": 0.05,
    "burst_total_ratio": 1.0,
    "idle_watts": {"before_context": 70.0, "with_context": None, "after_load": 80.0},
    "steady_watts": 600.0,
    "agreement": 1.01,
    "power": "instant",
    "own_process": "own",
    "latencies": {"nvmlDeviceGetPowerUsage": {"p50_seconds": 1e-5, "p99_seconds": 1e-4}},
}
SETTINGS = {"duty": 0.5, "tick_seconds": 0.1, "timestamp_moves_with_ticks": True}


def made_up(**changes: Any) -> Calibration:
    return Calibration(**{**MADE_UP, **changes})


def test_it_survives_json() -> None:
    one = made_up()
    assert Calibration.from_dict(json.loads(json.dumps(one.to_dict()))) == one


def test_what_is_unknown_is_no_setting() -> None:
    assert made_up().settings == SETTINGS
    assert made_up(duty=None, tick_seconds=None).settings == {"timestamp_moves_with_ticks": True}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("duty", value) for value in (0, -0.1, 1.01, True, "0.5", float("nan"))),
        *(("tick_seconds", value) for value in (0.0009, 5.1, float("inf"), False)),
        ("idle_tick_seconds", 0),
        ("jitter_seconds", -1e-9),
        ("steady_watts", 10**400),
        ("steady_seconds", None),
        ("timestamp_moves_with_ticks", 1),
        ("reduced", None),
        ("bursts", 1.5),
        ("date", "yesterday"),
        ("date", "2026-01-02T03:04:05"),
        ("date", 20260102),
        ("name", ""),
        ("uuid", None),
        ("driver", "9" * 201),
        ("power", "average"),
        ("own_process", "yes"),
        ("idle_watts", [70]),
        ("idle_watts", {"before_context": "70"}),
        ("latencies", 3),
        ("latencies", {"call": 3}),
        ("latencies", {"call": {"p50_seconds": -1}}),
    ],
)
def test_what_cannot_be_right_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        made_up(**{name: value})


@pytest.mark.parametrize("data", [None, [], {}, {**MADE_UP, "schema": 2}, MADE_UP])
def test_what_is_no_calibration_is_refused(data: Any) -> None:
    with pytest.raises(SettingsError, match="calibrate again"):
        Calibration.from_dict(data)


@pytest.mark.parametrize("more", [{"host": "here"}, {"duty": ...}])
def test_fields_are_neither_missing_nor_more(more: dict[str, Any]) -> None:
    data = {**MADE_UP, "schema": 1, **more}
    data = {name: value for name, value in data.items() if value is not ...}
    with pytest.raises(SettingsError, match=f"'{next(iter(more))}'"):
        Calibration.from_dict(data)


def test_what_was_saved_is_loaded_by_uuid_and_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "not yet" / "there"
    file = save_calibration(made_up(), folder)
    assert [file] == list(folder.iterdir())
    assert file.name == "calibration-GPU-00000000-0000-4000-8000-000000000000-20260102T030405.json"
    found = load_calibrations(folder)
    assert found == {MADE_UP["uuid"]: SETTINGS, MADE_UP["name"]: SETTINGS}
    assert found.ignored == ""


def test_the_newest_stands_for_its_uuid_and_its_name(tmp_path: Path) -> None:
    # By the moment, not by the text: three in the afternoon in Tokyo is before noon in Greenwich.
    save_calibration(made_up(duty=0.2, date="2026-01-02T12:00:00+00:00"), tmp_path)
    save_calibration(made_up(duty=0.3, date="2026-01-02T15:00:00+09:00"), tmp_path)
    save_calibration(made_up(duty=0.4, date="2026-01-03T00:00:00+00:00", uuid="GPU-other"), tmp_path)
    found = load_calibrations(tmp_path)
    duties = {key: settings["duty"] for key, settings in found.items()}
    assert duties == {MADE_UP["uuid"]: 0.2, "GPU-other": 0.4, MADE_UP["name"]: 0.4}


def test_the_file_stays_in_its_folder_whatever_the_uuid(tmp_path: Path) -> None:
    assert save_calibration(made_up(uuid="../../x y"), tmp_path).parent == tmp_path


BROKEN = {
    "half": b'{"schema": 1, "na',
    "bytes": b"\xff\xfe\x00",
    "deep": b"[" * 60_000,
    "empty": b"",
    "foreign": b'{"carbon": {"zone": "DE"}}',
    "long": b" " * 70_000,
    "wrong": json.dumps({**MADE_UP, "schema": 1, "duty": 7}).encode(),
    "nan": json.dumps({**MADE_UP, "schema": 1, "tick_seconds": float("nan")}).encode(),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_broken_is_ignored_and_told(kind: str, tmp_path: Path) -> None:
    save_calibration(made_up(), tmp_path)
    (tmp_path / f"calibration-{kind}.json").write_bytes(BROKEN[kind])
    (tmp_path / "settings.json").write_bytes(BROKEN[kind])
    found = load_calibrations(tmp_path)
    assert found[MADE_UP["uuid"]] == SETTINGS
    assert found.ignored.startswith(f"cannot be used: calibration-{kind}.json: ")
    assert len(found.ignored.splitlines()) == 1
    assert "settings.json" not in found.ignored


def test_what_is_no_file_is_ignored_and_does_not_block(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"calibration-{number}.json").mkdir()
    os.mkfifo(tmp_path / "calibration-9.json")
    found = load_calibrations(tmp_path)
    assert found == {}
    assert found.ignored.endswith("calibration-2.json: no file and 2 more")


def test_a_file_that_may_not_be_read_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_calibration(made_up(), tmp_path)

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert load_calibrations(tmp_path).ignored.endswith("Permission denied")
    monkeypatch.setattr(Path, "glob", refuse)
    assert load_calibrations(tmp_path).ignored == "cannot be used: the folder: Permission denied"


def test_no_folder_is_no_calibration(tmp_path: Path) -> None:
    found = load_calibrations(tmp_path / "none")
    assert (found, found.ignored) == ({}, "")


def test_the_folder_is_the_user_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: home))
    own = str(tmp_path / "own")
    assert config_folder({"TITAN_NB_CONFIG_HOME": own, "XDG_CONFIG_HOME": "/x"}) == tmp_path / "own"
    assert config_folder({"XDG_CONFIG_HOME": "/x", "APPDATA": "/y"}) == Path("/x/titan_nb")
    assert config_folder({"XDG_CONFIG_HOME": "relative"}) == home / ".config" / "titan_nb"
    assert config_folder({}) == home / ".config" / "titan_nb"


def test_without_a_home_nothing_is_loaded_and_saving_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless(_: type[Path]) -> Path:
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", classmethod(homeless))
    for name in ("TITAN_NB_CONFIG_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert load_calibrations() == {}
    with pytest.raises(SettingsError, match="TITAN_NB_CONFIG_HOME"):
        save_calibration(made_up())


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with one fake GPU; return the user's folder."""
    folder = tmp_path / "config"
    monkeypatch.setenv("TITAN_NB_CONFIG_HOME", str(folder))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with FakeNvml(tmp_path, [FakeGpu()]).in_process():
        yield folder


def probe() -> Any:
    return importlib.import_module("titan_nb.energy.discover").probe_nvidia(True)


def closed(found: Any) -> Any:
    for sensor in found.sensors:
        sensor.close()
    return found


def test_the_meter_s_search_uses_it(gpu: Path) -> None:
    (before,) = closed(probe()).sensors
    save_calibration(made_up(), gpu)
    (after,) = closed(probe()).sensors
    assert (before.duty, before.tick_seconds, before.tells_ticks) == (0.25, None, False)
    assert (after.duty, after.tick_seconds, after.tells_ticks) == (0.5, 0.1, True)
    assert "calibrated: samples 50% of the time" in after.source


def test_a_calibration_of_the_same_product_stands_in(gpu: Path) -> None:
    save_calibration(made_up(uuid="GPU-other"), gpu)
    (sensor,) = closed(probe()).sensors
    assert sensor.duty == 0.5


def test_a_broken_file_is_one_line_of_the_status_and_no_error(gpu: Path) -> None:
    gpu.mkdir()
    (gpu / "calibration-1.json").write_bytes(BROKEN["half"])
    (gpu / "calibration-2.json").write_bytes(BROKEN["foreign"])
    found = closed(probe())
    (sensor,) = found.sensors
    assert sensor.duty == 0.25
    (line,) = [one for one in found.findings if one.device == "GPU calibration"]
    assert not line.available
    assert "calibration-1.json: no JSON; calibration-2.json: no calibration" in line.why
    assert "python -m titan_nb.energy.calibrate --save" in line.remedy


def test_no_field_names_a_host_or_a_path() -> None:
    names = {field.name for field in dataclasses.fields(Calibration)}
    assert not {name for name in names if any(word in name for word in ("host", "path", "user", "file"))}
