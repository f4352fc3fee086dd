from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.nvml import FakeGpu, FakeNvml
from titan_nb.energy import calibrate as program
from titan_nb.energy.calibration import Calibration, load_calibrations
from titan_nb.energy.experiment import Plan
from titan_nb.errors import SensorError

KNOWN = Calibration(
    name="NVIDIA H100 80GB HBM3",
    uuid="GPU-1",
    driver="1.2.3",
    date="2026-01-02T03:04:05+00:00",
    load="made up",
    steady_seconds=6.0,
    reduced=True,
    tick_seconds=0.1,
    jitter_seconds=0.001,
    idle_tick_seconds=0.1,
    timestamp_moves_with_ticks=False,
    duty=0.26,
    duty_why="made up",
    bursts=24,
    burst_scatter=0.789,
    burst_scatter_part_time=0.0792,
    burst_total_ratio=0.963,
    idle_watts={"before_context": 70.0, "with_context": 110.0, "after_load": None},
    steady_watts=600.0,
    agreement=1.01,
    power="instant",
    own_process="other",
    latencies={"nvmlDeviceGetPowerUsage": {"p50_seconds": 12.3e-6, "p99_seconds": 45.6e-6}},
)
UNKNOWN = Calibration(
    **{
        **{name: value for name, value in KNOWN.to_dict().items() if name != "schema"},
        **dict.fromkeys(
            ("tick_seconds", "jitter_seconds", "idle_tick_seconds", "duty", "burst_scatter"), None
        ),
        **dict.fromkeys(("burst_scatter_part_time", "burst_total_ratio", "steady_watts", "agreement"), None),
        "reduced": False,
        "timestamp_moves_with_ticks": True,
    }
)


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Plan]]:
    """A machine with one GPU, which is not really measured; the plans by which it would have been."""
    plans: list[Plan] = []

    def measure(specimen: Any, load: Any, plan: Plan, say: Any) -> Calibration:
        plans.append(plan)
        say("idle")
        return KNOWN

    monkeypatch.setenv("TITAN_NB_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(program, "calibrate", measure)
    with FakeNvml(tmp_path, [FakeGpu()]).in_process():
        yield plans


def test_the_table_tells_everything() -> None:
    text = " ".join(program.table(KNOWN).split())
    for part in (
        "NVIDIA H100 80GB HBM3 GPU-1 driver 1.2.3",
        "reduced run",
        "counter ticks every 100 ms under load, 100 ms idle",
        "jitter of a tick 1 ms",
        "time stamp is that of the call",
        "counter looks 26% of the time: made up (24 bursts)",
        "0.789 about an integrating counter, 0.0792 about the best part-time one",
        "counted / expected 0.963",
        "70 W before context, 110 W with context, unknown after load",
        "steady power 600 W",
        "counter / instant power 1.01",
        "by another id, as in a container",
        "nvmlDeviceGetPowerUsage 12.3 µs 45.6 µs",
    ):
        assert part in text


def test_what_is_unknown_is_said_to_be() -> None:
    text = " ".join(program.table(UNKNOWN).split())
    assert "reduced" not in text
    assert "counter looks cannot be told: made up" in text
    assert "counter ticks every unknown under load, unknown idle" in text
    assert "time stamp is that of the last tick" in text
    assert "None" not in text


def test_nothing_is_written_unless_asked(
    plans: list[Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert program.main([]) == 0
    assert sorted(tmp_path.rglob("*")) == before
    output = capsys.readouterr()
    assert program.table(KNOWN) in output.out
    assert output.err == "idle ...\n"
    assert plans == [Plan()]


def test_what_is_asked_for_is_written(
    plans: list[Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert program.main(["--quick", "--save", "--out", str(out)]) == 0
    assert plans == [Plan.of(6)]
    assert Calibration.from_dict(json.loads(out.read_text())) == KNOWN
    assert load_calibrations()["GPU-1"] == KNOWN.settings
    assert str(tmp_path / "config") in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--seconds", "2"], "3 to 3600"),
        (["--seconds", "nan"], "3 to 3600"),
        (["--seconds", "long"], "invalid"),
        (["--seconds", "9", "--quick"], "not allowed with"),
        (["--device", "-1"], "whole number"),
        (["--out", "/nonexistent/folder/file"], "is no folder"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: list[str], why: str, plans: list[Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        program.main(options)
    assert why in capsys.readouterr().err
    assert not plans


def test_what_goes_wrong_is_one_line(
    plans: list[Plan], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Calibration:
        raise SensorError("others compute on it", "calibrate when it is free")

    monkeypatch.setattr(program, "calibrate", fail)
    assert program.main([]) == 1
    assert program.main(["--device", "3"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "calibration failed: others compute on it (calibrate when it is free)",
        "calibration failed: CUDA shows no GPU 3 (see CUDA_VISIBLE_DEVICES)",
    ]


def test_it_is_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["calibrate", "--help"])
    monkeypatch.delitem(sys.modules, "titan_nb.energy.calibrate")
    with pytest.raises(SystemExit) as end:
        runpy.run_module("titan_nb.energy.calibrate", run_name="__main__")
    assert end.value.code == 0
    assert "writes nothing unless asked" in " ".join(capsys.readouterr().out.split())
