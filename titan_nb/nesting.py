"""Which windows are open, which lie inside which, and which share their time with others.

What is measured is the whole process, so a window that opens and closes within another one is part of it, in
whatever thread. Sums count outermost windows only. Windows that overlap, with neither inside the other, each
hold some of the other's work: both are marked as shared.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from titan_nb.living import Living

if TYPE_CHECKING:
    from titan_nb.tracker import Run

__all__ = ["Nesting"]


class Nesting:
    """The open windows of one tracker."""

    def __init__(self) -> None:
        self.unlock()
        # Weak: a window whose owner was interrupted between two of its steps must not stay open for ever.
        self._open: Living[Run] = Living()

    def unlock(self) -> None:
        """Take a new lock, as a forked child must: a thread that is not there may hold the old one."""
        self._lock = threading.Lock()

    def enter(self, run: Run) -> None:
        """Take note that ``run`` begins."""
        with self._lock:
            self._open.add(run)

    def leave(self, run: Run) -> int | None:
        """Take note that ``run`` ends; return the number of the window that it lies in, or None.

        A cell owns what goes on in it, so a block in another thread does not make the cell a shared one; and
        it lies in no block, such as one that a suspended generator keeps open.
        """
        with self._lock:
            if run not in self._open:
                return None
            self._open.discard(run)
            others = sorted(self._open, key=lambda other: other.number)
            for other in others:
                if other.number > run.number:  # it began after us and goes on
                    other.shared = True
                    run.shared = run.shared or run.cell is None or other.cell is not None
                elif other.thread != run.thread:  # it is around us, but not for our sake
                    run.shared = True
                    other.shared = other.shared or other.cell is None or run.cell is not None
        around = [
            other
            for other in others
            if other.number < run.number and (run.cell is None or other.cell is not None)
        ]
        own = [other for other in around if other.thread == run.thread]
        if own:
            return own[-1].number
        return around[0].number if around else None

    def clear(self) -> None:
        """Forget the open windows."""
        with self._lock:
            self._open.clear()
