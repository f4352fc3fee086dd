"""A GPU that only counts, as the one that a shell's failed cells hold memory of."""

from __future__ import annotations

import pytest

from tests.unit.memory.blocks import Device
from titan_nb.memory import reclaim as memory
from titan_nb.memory.accelerator import Accelerator
from titan_nb.notebook import reclaim as notebook


def counting_gpu(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Put it in the place of torch's accelerator; resident memory, which is never still, is unknown."""
    device = Device()
    gpu = Accelerator("fake", device)
    monkeypatch.setattr(memory, "accelerator", lambda: gpu)
    monkeypatch.setattr(notebook, "accelerator", lambda: gpu)
    monkeypatch.setattr(memory.HostPeak, "resident", lambda self: None)
    return device
