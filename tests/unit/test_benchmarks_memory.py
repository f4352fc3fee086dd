from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What a run of one round without peers writes."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, ROOT / "benchmarks" / "memory.py", "--rounds", "1", "--no-peers"]
    done = subprocess.run([*command, "--results", folder], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stderr
    page = (folder / "memory.md").read_text(encoding="utf-8")
    assert done.stdout.startswith(page)
    return json.loads((folder / "memory.json").read_text(encoding="utf-8")), page


def test_the_failed_call_is_freed_by_titan_and_by_nothing_less(results: tuple[dict[str, Any], str]) -> None:
    freed = results[0]["figures"]["reclaim_freed"]
    assert freed["titan"] == [200 << 20, 200 << 20]
    assert freed["collect and empty the cache"] == [0, 200 << 20]


def test_every_byte_of_the_trained_model_is_found(results: tuple[dict[str, Any], str]) -> None:
    assert results[0]["figures"]["who"]["titan"]["seen_over_true"] == 1.0


def test_a_million_objects_are_not_looked_at_in_silence(results: tuple[dict[str, Any], str]) -> None:
    found = results[0]["figures"]
    assert found["many_tensor_named"]
    # Either all of them were looked at, the last one too, or the answer says that they were not.
    assert found["many_last_named"] == ("huge" not in found["many_stopped_at"])


def test_the_page_says_that_the_gpu_is_simulated_and_names_the_goals(
    results: tuple[dict[str, Any], str],
) -> None:
    found, page = results
    assert "its figures are simulated" in page
    assert "an empty cell under titan, over the plain cell" in page
    assert "### Goals" in page
    assert found["peers"] == {}
