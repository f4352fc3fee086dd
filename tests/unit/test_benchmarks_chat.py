"""The chat memory's benchmark, reduced: 2,000 rows, one round, no peers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """What a reduced run writes, and where."""
    folder = tmp_path_factory.mktemp("chat benchmark")
    command = [sys.executable, ROOT / "benchmarks" / "chat.py", "--rows", "2000", "--rounds", "1"]
    command += ["--searches", "20", "--no-peers", "--data", folder / "data", "--results", folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith((folder / "chat.md").read_text(encoding="utf-8"))
    return json.loads((folder / "chat.json").read_text(encoding="utf-8")), folder


def test_exact_searches_find_all_and_are_certified(results: tuple[dict[str, Any], Path]) -> None:
    found = results[0]["figures"]  # the worker itself stops where a search is not certified
    for part in ("scan random", "scan text", "batch"):
        assert found[part]["titan exact"]["recall"] == 1.0
        assert found[part]["torch float32"]["recall"] == 1.0
    assert set(found["rows"]) == {"1000"}


def test_every_part_has_its_figures(results: tuple[dict[str, Any], Path]) -> None:
    found = results[0]["figures"]
    for part in ("chat", "insert", "append", "reopen", "process 1000"):
        assert found[part]["titan"]["cpu_ms"]["median"] > 0
    assert found["process 1000"]["torch"]["peak_over_input"] > 0.9


def test_the_page_and_the_plot(results: tuple[dict[str, Any], Path]) -> None:
    page = (results[1] / "chat.md").read_text(encoding="utf-8")
    assert "2,000 rows of 384 numbers: embeddings of real text" in page
    assert "durable append of 1,000" in page
    assert (results[1] / "chat-rows.png").stat().st_size > 10_000


def test_nothing_is_left_but_the_rows(results: tuple[dict[str, Any], Path]) -> None:
    left = sorted(one.name for one in (results[1] / "data").iterdir())
    assert [name for name in left if not name.endswith(".npy")] == []
