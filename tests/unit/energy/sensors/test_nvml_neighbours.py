from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from tests.unit.energy.sensors.nvml_stand_in import Nvml, error
from titan_nb.energy.sensors.nvml_neighbours import Neighbour, neighbours
from titan_nb.errors import SensorError

ME, HERE, HOST = os.getpid(), os.getppid(), 2**22 + 7
COMMAND = Path(f"/proc/{HERE}/comm").read_text().strip()


def on(nvml: Nvml, monkeypatch: pytest.MonkeyPatch, *processes: tuple[int, Any]) -> None:
    """Put processes with what they hold on the first device."""
    found = [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in processes]
    monkeypatch.setattr(
        nvml,
        "nvmlDeviceGetComputeRunningProcesses",
        lambda handle: found if handle == 0 else [],
        raising=False,
    )


def test_others_are_named_and_we_are_not(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    on(nvml, monkeypatch, (ME, 100), (HERE, 200), (HOST, None))
    assert neighbours(nvml) == [
        Neighbour("gpu:GPU-aa", HERE, COMMAND, 200),
        Neighbour("gpu:GPU-aa", HOST, "", None),
    ]
    assert nvml.started == 0


def test_in_a_container_the_only_one_is_ours(nvml: Nvml, monkeypatch: pytest.MonkeyPatch) -> None:
    on(nvml, monkeypatch, (HOST, 100))
    assert neighbours(nvml) == []


def test_a_driver_that_does_not_tell_names_nobody(nvml: Nvml) -> None:
    nvml.fail["nvmlDeviceGetComputeRunningProcesses"] = error(pynvml.NVML_ERROR_NOT_SUPPORTED)
    assert neighbours(nvml) == []


def test_without_a_driver_it_says_so(nvml: Nvml) -> None:
    nvml.fail["nvmlInit"] = error(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    with pytest.raises(SensorError, match="NVML cannot be started"):
        neighbours(nvml)
