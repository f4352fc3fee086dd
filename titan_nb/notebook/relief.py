"""What is done and said about memory when a cell of a shell has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.cache_threshold import maybe_empty
from titan_nb.memory.headroom import keep_headroom
from titan_nb.notebook.reclaim import FailedCells, short_of_ram
from titan_nb.tracker import Run

if TYPE_CHECKING:
    from titan_nb.memory.spill.policy import SpillPolicy
    from titan_nb.notebook.cells import Frame

__all__ = ["Relief"]


class Relief:
    """What a shell does when memory is short: gives it back, moves it, and says which limit was met.

    Args:
        shell: The shell.

    Attributes:
        failed_cells: The failed cells that IPython remembers.
    """

    def __init__(self, shell: Any) -> None:
        self.failed_cells = FailedCells(shell)
        self._shell = shell
        self._policy: SpillPolicy | None = None

    def holders(self) -> list[tuple[str, int]]:
        """Return who holds memory, the largest first."""
        from titan_nb.notebook.who import holders

        return holders(self._shell)

    def ram_holders(self) -> list[tuple[str, int]]:
        """Return who holds memory of the host, the largest first."""
        from titan_nb.notebook.who import holders

        return holders(self._shell, of_ram=True)

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

    def after_cell(self, result: Any, run: Run | None, policy: str) -> str | None:
        """Give back what a failed cell holds; return what there is to say of memory, None as a rule.

        To be called under a `Shield`, after IPython has shown the traceback.

        Args:
            result: IPython's result of the cell.
            run: The cell's window, if it has one; its limits are lifted already.
            policy: After which failures memory is given back, one of `titan_nb.settings.RECLAIMS`.
        """
        returned = self.failed_cells.after_cell(result, policy, self.holders, self.ram_holders)
        error = getattr(result, "error_in_exec", None)
        met = None
        if run is not None and run.limit is not None and error is not None:
            holders = self.ram_holders if short_of_ram(error) else self.holders
            # Who holds what is said once.
            met = run.limit.explain(error, None if returned else holders)
        return "; ".join(part for part in (met, returned) if part) or None

    def between_cells(self, cache_threshold: float | None) -> None:
        """Leave the next cell some room on each GPU, and empty its cache past what the user allows."""
        keep_headroom()
        gpu = None if cache_threshold is None else accelerator()
        if gpu is not None and cache_threshold is not None:
            maybe_empty(gpu, cache_threshold)
