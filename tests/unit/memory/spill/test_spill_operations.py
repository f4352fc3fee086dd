"""Torch's own list of operations, on spilled tensors: the same result, or a refusal, and no crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("operations.py")
ROOT = Path(__file__).parents[4]


def _played(first: int, step: int, device: str, tmp_path: Path) -> list[dict[str, Any]]:
    """Run every ``step``-th operation; one that ends the process has failed, and the next one goes on."""
    results: list[dict[str, Any]] = []
    while True:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), str(first + step * len(results)), str(step), device],
            env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": os.environ.get("TMPDIR", "/tmp")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        results += [line for line in lines if "name" in line]
        if done.returncode == 0:
            return results
        assert lines, done.stderr
        results.append({"name": lines[-1]["begin"], "same": 0, "failed": [f"exit code {done.returncode}"]})


def _check(results: list[dict[str, Any]], at_least: int) -> None:
    failed = [(one["name"], one["failed"]) for one in results if one["failed"]]
    assert failed == []
    # An operation counts if it was really tried on a spilled tensor.
    assert sum(one["same"] > 0 for one in results) >= at_least


def test_a_third_of_the_operations(tmp_path: Path) -> None:
    """The other two thirds are in the slow tests."""
    _check(_played(0, 3, "cpu", tmp_path), at_least=200)


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("device", ["cpu", "fakegpu"])
def test_all_operations(device: str, tmp_path: Path) -> None:
    _check(_played(0, 1, device, tmp_path), at_least=600)
