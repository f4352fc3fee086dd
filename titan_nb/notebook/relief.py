"""What is done and said about memory when a cell of a shell has ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.cache_threshold import maybe_empty
from titan_nb.notebook.reclaim import FailedCells
from titan_nb.records import DeviceMemory
from titan_nb.tracker import Run

if TYPE_CHECKING:
    from titan_nb.memory.owners import KeptFinder, Root
    from titan_nb.memory.spill.policy import SpillPolicy
    from titan_nb.notebook.cells import Frame

__all__ = ["Relief"]

LOOK_SECONDS = 0.02
"""The longest that the prompt waits for the names of what a cell left behind."""

QUICK_LOOK_SECONDS = 0.001
"""The longest look before a cell that did not ask for it; what it does not come to is not said to be new."""

_LEAST_KEPT_BYTES = {"gpu": 1 << 20, "ram": 16 << 20}
"""From here on it is told who holds what a cell left behind; the host takes and gives all the time."""


class Relief:
    """What a shell does about memory: names what a cell left behind, gives back what a failed one holds.

    Args:
        shell: The shell.

    Attributes:
        failed_cells: The failed cells that IPython remembers.
    """

    def __init__(self, shell: Any) -> None:
        self.failed_cells = FailedCells(shell)
        self._shell = shell
        self._finder: KeptFinder | None = None
        self._policy: SpillPolicy | None = None
        self._looked = False

    def holders(self) -> list[tuple[str, int]]:
        """Return who holds memory, the largest first."""
        from titan_nb.notebook.who import holders

        return holders(self._shell)

    def spill_idle(self, frame: Frame, idle_cells: int | None) -> str | None:
        """Move what the coming cell does not seem to need off a GPU that is short of memory.

        Args:
            frame: The cell.
            idle_cells: How many cells in a row must have left a variable unmentioned; None for never.

        Returns:
            What was moved; None as a rule.
        """
        if idle_cells is None:
            self._policy = None
            return None
        from titan_nb.memory.spill.policy import SpillPolicy
        from titan_nb.notebook.spill import moved_text

        if self._policy is None or self._policy.idle_cells != idle_cells:
            self._policy = SpillPolicy(idle_cells)
        done = self._policy.before_cell(frame.info.raw_cell, self._shell.user_ns, frame.cell.number)
        return f"spilled {moved_text(done.moved, 'to host memory')}" if done and done.moved else None

    def before_cell(self, asked: bool) -> None:
        """Take note of what there is, so that `kept` can tell what is new.

        Args:
            asked: Whether the user asked for this cell. Else only a GPU in use is worth a look, a short one.
        """
        self._looked = asked or accelerator() is not None
        if self._looked:
            self._kept_finder().begin(self._roots(), LOOK_SECONDS if asked else QUICK_LOOK_SECONDS)

    def kept(self, run: Run) -> None:
        """Name what a cell left behind, where that is enough to be worth a look; its window is closed."""
        if self._looked and any(_left(key, part) for key, part in run.memory.devices.items()):
            run.memory = replace(run.memory, kept=self._kept_finder().end(self._roots()))

    def _kept_finder(self) -> KeptFinder:
        # Imported only now, as in `_roots`, so that loading the extension stays quick.
        if self._finder is None:
            from titan_nb.memory.owners import KeptFinder

            self._finder = KeptFinder(LOOK_SECONDS)
        return self._finder

    def _roots(self) -> Iterable[Root]:
        from titan_nb.notebook.roots import roots_of

        return roots_of(self._shell)

    def after_cell(self, result: Any, run: Run | None, policy: str) -> str | None:
        """Give back what a failed cell holds; return what there is to say of memory, None as a rule.

        To be called under a `Shield`, after IPython has shown the traceback.

        Args:
            result: IPython's result of the cell.
            run: The cell's window, if it has one; its limits are lifted already.
            policy: After which failures memory is given back, one of `titan_nb.settings.RECLAIMS`.
        """
        returned = self.failed_cells.after_cell(result, policy, self.holders)
        error = getattr(result, "error_in_exec", None)
        met = None
        if run is not None and run.limit is not None and error is not None:
            # Who holds what is said once.
            met = run.limit.explain(error, None if returned else self.holders)
        return "; ".join(part for part in (met, returned) if part) or None

    def between_cells(self, cache_threshold: float | None) -> None:
        """Empty the GPU's cache if it has grown past what the user allows."""
        gpu = None if cache_threshold is None else accelerator()
        if gpu is not None and cache_threshold is not None:
            maybe_empty(gpu, cache_threshold)


def _left(key: str, part: DeviceMemory) -> bool:
    return part.kept_bytes >= _LEAST_KEPT_BYTES.get(key.partition(":")[0], _LEAST_KEPT_BYTES["ram"])
