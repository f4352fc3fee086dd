"""A reduced calibration of the real GPU.

It runs in a process of its own, because it measures the GPU without a CUDA context first; so no other
process, the one of these tests included, may hold one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from titan_nb.energy.calibration import Calibration

pytestmark = pytest.mark.gpu


def test_a_reduced_calibration_is_plausible(tmp_path: Path) -> None:
    file = tmp_path / "calibration.json"
    command = [sys.executable, "-m", "titan_nb.energy.calibrate", "--quick", "--out", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    found = Calibration.from_dict(json.loads(file.read_text()))
    assert found.reduced
    assert "reduced run" in done.stdout
    assert found.tick_seconds is not None
    assert 0.005 <= found.tick_seconds <= 0.2
    assert found.jitter_seconds is not None
    assert found.jitter_seconds < found.tick_seconds / 2
    assert found.duty is None or 0.05 <= found.duty <= 1
    watts = found.idle_watts["before_context"], found.idle_watts["with_context"], found.steady_watts
    assert None not in watts
    before, context, steady = watts
    assert 1 < before < steady < 2000
    assert 1 < context < steady
    assert found.agreement == pytest.approx(1, abs=0.2)
    assert found.latencies["nvmlDeviceGetTotalEnergyConsumption"]["p50_seconds"] < 0.05
    assert found.own_process in ("own", "other", "none")
