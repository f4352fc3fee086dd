from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.figures import goal_table, goals, spread, summary, table

ROOT = Path(__file__).resolve().parents[2]
OWN = {"plain", "%%time", "loaded, off", "%titan on", "%titan track", "%%titan", "%%titan -q"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What a tiny run writes."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, ROOT / "benchmarks" / "overhead.py", "--cells", "20", "--rounds", "1"]
    command += ["--no-peers", "--kernel", "--results", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith((folder / "overhead.md").read_text(encoding="utf-8"))
    return json.loads((folder / "overhead.json").read_text(encoding="utf-8")), folder


def test_every_kind_of_cell_is_measured(results: tuple[dict[str, Any], Path]) -> None:
    found, _ = results
    for place, has_thread in (("titan", True), ("kernel", False)):
        assert set(found[place]) == OWN
        for figure in found[place].values():
            assert figure["cells"] == 20
            assert figure["blocks"] == 1
            assert 0 < figure["cpu_ms"]["p10"] <= figure["cpu_ms"]["median"] <= figure["cpu_ms"]["p90"]
            assert (figure["thread_ms"] is not None) == has_thread
        assert found[place]["plain"]["over_plain_ms"]["median"] == 0
    assert found["peers"] == {}


def test_ratios_and_goals_follow_from_the_figures(results: tuple[dict[str, Any], Path]) -> None:
    found, _ = results
    for place in ("titan", "kernel"):
        figures = found[place]
        of_time = figures["%%time"]["over_plain_ms"]["median"]
        for figure in figures.values():
            expected = figure["over_plain_ms"]["median"] / of_time if of_time > 0 else None
            assert figure["ratio_to_time"] == (None if expected is None else pytest.approx(expected))
    assert found["goals"] == goals(found["titan"], {}, found["kernel"])
    assert len(found["goals"]) == 6


def test_a_missed_goal_comes_with_a_profile(results: tuple[dict[str, Any], Path]) -> None:
    found, folder = results
    missed = {goal["variant"] for goal in found["goals"] if goal["met"] is False}
    profile = folder / "overhead-profile.txt"
    assert profile.exists() == bool(missed)
    for variant in missed:
        assert f"\n{variant}\n" in profile.read_text(encoding="utf-8")


def test_the_results_hold_no_path(results: tuple[dict[str, Any], Path]) -> None:
    found, folder = results
    assert set(found["machine"]) == {"cpu", "logical_cores", "system", "python", "packages"}
    assert found["date"].endswith("+00:00")
    for file in folder.iterdir():
        text = file.read_text(encoding="utf-8")
        assert not [path for path in (ROOT, sys.prefix, folder) if str(path) in text]


def block(process: float) -> dict[str, float | None]:
    return {"process": process, "thread": None}


def sweeps(**extra: float) -> list[dict[str, dict[str, float | None]]]:
    """Three sweeps on a machine that gets slower: the plain cell takes 1, 2 and 3 ms."""
    names = {"time": "%%time", "on": "%titan on", "quiet": "%%titan -q", "shown": "%%titan", "peer": "peer"}
    return [
        {
            "plain": block(plain / 1e3),
            **{names[name]: block((plain + ms) / 1e3) for name, ms in extra.items()},
        }
        for plain in (1, 2, 3)
    ]


def test_the_difference_is_taken_within_a_sweep() -> None:
    figures = summary(sweeps(time=0.5, quiet=1.0), cells=25)
    assert figures["%%titan -q"]["over_plain_ms"] == pytest.approx({"median": 1.0, "p10": 1.0, "p90": 1.0})
    assert figures["%%titan -q"]["ratio_to_time"] == pytest.approx(2.0)
    assert figures["plain"]["cpu_ms"] == pytest.approx({"median": 2.0, "p10": 1.2, "p90": 2.8})
    assert figures["plain"]["cells"] == 75


def test_there_is_no_ratio_to_a_time_that_adds_nothing() -> None:
    assert summary(sweeps(time=-0.1, quiet=1.0), cells=25)["%%titan -q"]["ratio_to_time"] is None
    assert summary(sweeps(peer=1.0), cells=25)["peer"]["ratio_to_time"] is None


def test_a_goal_is_met_missed_or_not_tried() -> None:
    titan = summary(sweeps(time=0.5, on=0.2, quiet=1.6, shown=2.4), cells=25)
    peers = {
        "peer": {"version": "1", "figures": summary(sweeps(peer=2.0), cells=25)},
        "absent": {"not_tried": "could not be installed"},
    }
    found = goals(titan, peers, None)
    assert [goal["met"] for goal in found] == [True, False, True, True, True, False, None, None, None]
    page = goal_table(found)
    assert page.count("missed") == 2
    assert page.count("not tried") == 3


def test_a_table_is_aligned() -> None:
    lines = table("Title", summary(sweeps(time=0.5, on=0.2), cells=25)).splitlines()
    assert lines[0] == "### Title"
    assert len({len(line) for line in lines[2:]}) == 1
    assert "+0.200" in lines[-1]
    assert "0.40" in lines[-1]


def test_the_spread_of_one_block_is_that_block() -> None:
    assert spread([3.0]) == {"median": 3.0, "p10": 3.0, "p90": 3.0}
