from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from titan_nb.memory.container import Container
from titan_nb.notebook import alarm as module
from titan_nb.notebook.alarm import LOOK_SECONDS, ContainerAlarm
from titan_nb.notebook.cells import Frame
from titan_nb.records import CellRef


class Looks:
    """Runs the looks when told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []
        self.seconds: list[float] = []

    def every(self, seconds: float, job: Callable[[], None]) -> Callable[[], None]:
        self.jobs.append(job)
        self.seconds.append(seconds)
        return lambda: self.jobs.remove(job)


def frame() -> Frame:
    return Frame(CellRef(1), "a", {})


def test_a_running_cell_is_warned_in_its_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "container", lambda: Container(100, 10, 0, "memory.max"))
    lines = ["container limit 8 GiB", None]
    monkeypatch.setattr(module.ContainerWatch, "warning", lambda self: lines.pop(0))
    said: list[Any] = []
    looks, cell = Looks(), frame()
    ContainerAlarm(looks.every, lambda *words: said.append(words)).watch(cell)
    assert looks.seconds == [LOOK_SECONDS]
    looks.jobs[0]()
    looks.jobs[0]()
    assert said == [(cell, "container limit 8 GiB")]
    for undo in cell.at_end:
        undo()
    assert looks.jobs == []


def test_without_a_container_nothing_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(module, "container", lambda: asked.append(True))
    looks = Looks()
    alarm = ContainerAlarm(looks.every, lambda *words: None)
    for _ in range(3):
        alarm.watch(frame())
    assert looks.jobs == []
    assert asked == [True]
