from __future__ import annotations

import psutil
import pytest

from titan_nb.energy.sensors import Reading, ram_model
from titan_nb.energy.sensors.ram_model import RamModel
from titan_nb.host import process_id

GIB = 1024**3


def test_mean_of_both_ends_with_the_two_as_the_interval() -> None:
    energy = RamModel().energy(Reading(0, 8.0 * GIB), Reading(10, 4.0 * GIB), 0, 10)
    assert (energy.joules, energy.low, energy.high) == (22.5, 15.0, 30.0)
    assert energy.grade == "modelled"
    assert "0.375 W per GiB" in energy.source


@pytest.mark.parametrize("linux", [True, False])
def test_a_reading_is_the_resident_memory(monkeypatch: pytest.MonkeyPatch, linux: bool) -> None:
    monkeypatch.setattr(ram_model, "_LINUX", linux)
    model = RamModel()
    assert model.key == f"ram:{process_id()}"
    assert model.read().value == pytest.approx(psutil.Process().memory_info().rss, rel=0.05)
    model.close()


def test_a_terabyte_of_the_host_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: pytest.fail("asked for the memory of the host"))
    model = RamModel()
    begin, end = model.read(), model.read()
    energy = model.energy(begin, end, begin.at, begin.at + 1.0)
    assert energy.joules == pytest.approx(0.375 * psutil.Process().memory_info().rss / GIB, rel=0.05)
    model.close()
