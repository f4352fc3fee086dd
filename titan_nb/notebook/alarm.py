"""A warning while a cell runs, before its container's memory limit ends the kernel without a word."""

from __future__ import annotations

from collections.abc import Callable

from titan_nb.memory.container import ContainerWatch, container
from titan_nb.memory.peaks import Every
from titan_nb.notebook.cells import Frame

__all__ = ["LOOK_SECONDS", "ContainerAlarm"]

LOOK_SECONDS = 1.0
"""How often a running cell's container is looked at, which takes about 0.3 ms."""


class ContainerAlarm:
    """Looks at the container's memory while cells run; without a limit it does nothing.

    Args:
        every: Runs the looks.
        say: Says one line in the name of a running cell, from any thread.
    """

    def __init__(self, every: Every, say: Callable[[Frame, str], None]) -> None:
        self._every = every
        self._say = say
        self._watch = ContainerWatch()
        self._limited: bool | None = None

    def watch(self, frame: Frame) -> None:
        """Look at the container until the cell ends, if there is a limit."""
        if self._limited is None:
            self._limited = container() is not None
        if self._limited:
            frame.at_end.append(self._every(LOOK_SECONDS, lambda: self._look(frame)))

    def _look(self, frame: Frame) -> None:
        line = self._watch.warning()
        if line is not None:
            self._say(frame, line)
