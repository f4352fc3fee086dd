"""What a cell left behind, by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from titan_nb.memory.accelerator import accelerator
from titan_nb.records import DeviceMemory
from titan_nb.tracker import Run

if TYPE_CHECKING:
    from titan_nb.memory.owners import KeptFinder, Root

__all__ = ["LeftBehind"]

LOOK_SECONDS = 0.02
"""The longest that a cell or the prompt waits for a look."""

_LEAST_BYTES = {"gpu": 1 << 20, "ram": 16 << 20}
"""From here on a look is worth it; the host takes and gives all the time."""


class LeftBehind:
    """Names what the cells of one shell left behind.

    That takes a look before the cell and one after it. Before a cell that did not ask, there is none as long
    as torch has handed out next to nothing on the GPUs since the last one; such a cell is only told what it
    left on the GPUs.

    Args:
        shell: The shell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._finder: KeptFinder | None = None
        self._asked = False
        self._seen_bytes = 0

    def before_cell(self, asked: bool) -> None:
        """Take note of what there is.

        Args:
            asked: Whether the user asked for this cell.
        """
        self._asked = asked
        if asked or _handed_out_bytes() - self._seen_bytes >= _LEAST_BYTES["gpu"]:
            self._kept_finder().begin(self._roots())
            self._seen_bytes = _handed_out_bytes()

    def after_cell(self, run: Run) -> None:
        """Name what is new, where that is enough to be worth a look; the cell's window is closed."""
        if any(self._is_worth_it(key, part) for key, part in run.memory.devices.items()):
            kept = self._kept_finder().end(self._roots())
            self._seen_bytes = _handed_out_bytes()
            told = tuple(one for one in kept if self._asked or one.device.startswith("gpu:"))
            run.memory = replace(run.memory, kept=told)

    def _is_worth_it(self, key: str, part: DeviceMemory) -> bool:
        kind = key.partition(":")[0]
        told = kind == "gpu" or (kind == "ram" and self._asked)
        return told and part.kept_bytes >= _LEAST_BYTES[kind]

    def _kept_finder(self) -> KeptFinder:
        # Imported only now, as in `_roots`, so that loading the extension stays quick.
        if self._finder is None:
            from titan_nb.memory.owners import KeptFinder

            self._finder = KeptFinder(LOOK_SECONDS)
        return self._finder

    def _roots(self) -> Iterable[Root]:
        from titan_nb.notebook.roots import roots_of

        return roots_of(self._shell)


def _handed_out_bytes() -> int:
    """Return how many bytes torch has handed out on all GPUs since it began, those given back included."""
    gpu = accelerator()
    if gpu is None or not gpu.has_peaks:
        return 0
    return sum(int(gpu.statistics(index)["allocated_bytes"]["all"]["allocated"]) for index in gpu.keys())  # noqa: SIM118
