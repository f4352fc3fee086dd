from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.energy_figures import LENGTHS, error, goals, length_text, summaries, summary

ROOT = Path(__file__).resolve().parents[2]


def cell(joules: float | None, **more: Any) -> dict[str, Any]:
    """A cell that truly used 100 J, and 150 J with the tool's own start and stop."""
    return {"seconds": 0.1, "true_joules": 100.0, "outer_joules": 150.0, "joules": joules, **more}


@pytest.mark.parametrize(
    ("joules", "strict", "lenient"),
    [
        (100, 0.0, 0.0),
        (90, -0.1, -0.1),
        (150, 0.5, 0.0),
        (130, 0.3, -20 / 150),
        (180, 0.8, 0.2),
        (0, -1.0, -1.0),
    ],
)
def test_a_peer_is_compared_with_the_nearer_truth(joules: float, strict: float, lenient: float) -> None:
    assert error(cell(joules)) == pytest.approx(strict)
    assert error(cell(joules), lenient=True) == pytest.approx(lenient)


def test_the_first_figure_has_an_error_of_its_own() -> None:
    assert error(cell(100, first_joules=40), "first_joules") == pytest.approx(-0.6)


def test_a_summary_of_plain_figures() -> None:
    found = summary([cell(90), cell(100), cell(130), cell(0), cell(None)])
    assert found == {
        "cells": 5,
        "unknown": 1,
        "zeros": 1,
        "median_error": pytest.approx(0.2),
        "p90_error": pytest.approx(0.79),
        "bias": pytest.approx(-0.2),
    }


def test_what_is_unknown_is_not_covered() -> None:
    known = {"low": 80.0, "high": 120.0, "late_seconds": 0.1}
    missed = {"low": 101.0, "high": 111.0, "late_seconds": 0.3}
    unknown = {"low": None, "high": None, "late_seconds": 0.2}
    found = summary([cell(100, **known), cell(100, **known), cell(105, **missed), cell(None, **unknown)])
    assert found["coverage"] == 0.5
    assert found["median_width"] == pytest.approx(0.4)
    assert found["late_seconds"] == pytest.approx(0.15)
    assert found["most_late_seconds"] == 0.3


def test_nothing_known_at_all() -> None:
    found = summary([cell(None)])
    assert (found["median_error"], found["p90_error"], found["bias"]) == (None, None, None)
    assert found["unknown"] == 1


def test_lengths_are_kept_apart() -> None:
    found = summaries([cell(100) | {"seconds": 1.0}, cell(50), cell(150)])
    assert list(found) == [0.1, 1.0]
    assert found[0.1]["median_error"] == pytest.approx(0.5)
    assert found[1.0]["cells"] == 1
    assert [length_text(seconds) for seconds in LENGTHS] == ["10 ms", "100 ms", "1 s", "10 s"]


def results(**changes: float) -> dict[str, Any]:
    """Results by which every goal is met, but for the changes."""
    value = {"error": 0.001, "bias": -0.001, "zeros": 0, "coverage": 0.95, "width": 0.02, "on": 0.5} | changes
    figures = {
        "zeros": value["zeros"],
        "unknown": value.get("unknown", 0),
        "median_error": value["error"],
        "bias": value["bias"],
    }
    table = dict.fromkeys((0.1, 1.0), figures)
    simulated = {
        seconds: {"zeros": 0, "unknown": 0, "coverage": value["coverage"], "median_width": value["width"]}
        for seconds in LENGTHS
    }
    return {
        "accuracy": {"integrating": {"titan": table}, "part-time": {"titan": {}}},
        "coverage": {"integrating": simulated, "part-time": simulated},
        "cpu": {"titan": {"%titan on": {"over_plain_ms": {"median": value["on"]}}}},
        "idle": {"titan": {"idle": value.get("idle", 0.002), "open": value.get("open", 0.01)}},
    }


def test_all_goals_are_met_at_their_limits() -> None:
    found = goals(results())
    assert len(found) == 4 + 2 + 8 + 4 + 3
    assert [goal["goal"] for goal in found if goal["met"] is not True] == []


@pytest.mark.parametrize(
    ("change", "missed"),
    [
        ({"error": 0.005}, {"median error at 1 s"}),
        ({"error": 0.02}, {"median error at 100 ms", "median error at 1 s"}),
        ({"bias": -0.005}, {"bias at 1 s"}),
        ({"zeros": 1}, {"busy cells that read 0 J, of all"}),
        ({"unknown": 1}, {"busy cells that are unknown, of all"}),
        ({"on": 0.51}, {"CPU of an empty cell by `%titan on`, over plain"}),
        ({"idle": 0.0021}, {"CPU of the sampler, idle"}),
        ({"open": 0.011}, {"CPU of the sampler, in a cell"}),
        (
            {"width": 0.03},
            {"median width at 10 s, integrating counter", "median width at 10 s, part-time counter"},
        ),
    ],
)
def test_a_goal_is_missed(change: dict[str, float], missed: set[str]) -> None:
    assert {goal["goal"] for goal in goals(results(**change)) if goal["met"] is False} == missed


def test_coverage_has_a_lower_limit() -> None:
    missed = [goal for goal in goals(results(coverage=0.949)) if not goal["met"]]
    assert len(missed) == 8
    assert all(goal["goal"].startswith("coverage") and goal["least"] for goal in missed)


def test_what_was_not_tried_is_not_met() -> None:
    found = results()
    del found["accuracy"]["integrating"]["titan"][1.0]
    verdicts = {goal["goal"]: goal["met"] for goal in goals(found)}
    assert verdicts["median error at 1 s"] is None
    assert verdicts["bias at 1 s"] is None


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path, str]:
    """What a tiny run writes and prints."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, ROOT / "benchmarks" / "energy.py", "--quick", "--no-peers", "--seed", "7"]
    done = subprocess.run([*command, "--results", folder], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "energy.json").read_text(encoding="utf-8")), folder, done.stdout


def test_a_tiny_run_measures_the_simulated_gpu(quick: tuple[dict[str, Any], Path, str]) -> None:
    found, _, _ = quick
    for kind in ("integrating", "part-time"):
        assert set(found["accuracy"][kind]) == {"titan", "titan, at once"}
        titan = found["accuracy"][kind]["titan"]
        assert {seconds: figures["cells"] for seconds, figures in titan.items()} == {
            "0.01": 5,
            "0.1": 5,
            "1.0": 2,
        }
        assert sum(figures["unknown"] + figures["zeros"] for figures in titan.values()) == 0
        assert all(figures["cells"] == 100 for figures in found["coverage"][kind].values())
    assert set(found["idle"]) == {"nothing", "titan"}
    assert set(found["cpu"]["titan"]) == {"plain", "%titan on"}
    assert found["peers"] == {}


def test_a_tiny_run_says_that_it_is_one(quick: tuple[dict[str, Any], Path, str]) -> None:
    found, folder, printed = quick
    page = (folder / "energy.md").read_text(encoding="utf-8")
    assert printed.startswith(page)
    assert "A reduced run" in page
    assert "simulated" in page.splitlines()[0]
    _, _, table = page.partition("### Goals\n\n")
    assert len(table.splitlines()) == len(found["goals"]) + 2
    assert (folder / "energy-error.png").read_bytes().startswith(b"\x89PNG")


def test_results_hold_no_path_and_no_host(quick: tuple[dict[str, Any], Path, str]) -> None:
    _, folder, _ = quick
    for file in (folder / "energy.json", folder / "energy.md"):
        text = file.read_text(encoding="utf-8")
        assert not [path for path in (ROOT, sys.prefix, folder) if str(path) in text]
