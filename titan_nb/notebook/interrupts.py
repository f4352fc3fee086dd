"""Keep Ctrl-C out of titan's own work, and hand it on where it belongs."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import ast
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["InterruptedCell", "Shield"]

# The C functions: those of `signal` try to make an enum of every handler, which costs ten times as much.
_SIGINT = int(signal.SIGINT)


class Shield:
    """While it is held, an interrupt is noted instead of raised; see `caught`.

    An interrupt that IPython sees inside an event callback is printed with a traceback and lost, and one
    between two of our statements would leave a window half open. The user's own handler is put back on the
    way out, whatever happened. Outside the main thread there are no interrupts and this does nothing.

    Attributes:
        caught: Whether an interrupt arrived meanwhile.
    """

    __slots__ = ("_previous", "caught")

    def __enter__(self) -> Shield:
        self.caught = False
        self._previous: Any = None
        if threading.current_thread() is threading.main_thread():
            current = _signal.getsignal(_SIGINT)
            # Ignored, left to the system, or installed from C: then nothing can be raised into our code.
            if callable(current):
                self._previous = current
                _signal.signal(_SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            _signal.signal(_SIGINT, self._previous)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.caught = True

    def deliver(self) -> None:
        """Hand a caught interrupt to the handler that it was meant for, which as a rule raises."""
        if self.caught:
            self.caught = False
            self._previous(_SIGINT, sys._getframe())


class InterruptedCell:
    """An AST transformer that puts ``raise KeyboardInterrupt`` before the first statement of a cell.

    Raised inside an event callback, an interrupt would be printed by IPython and lost, and raised a moment
    later by a timer it might meet IPython or the kernel in the middle of a reply.
    """

    def visit(self, tree: ast.Module) -> ast.Module:
        """Return ``tree`` as a cell that is interrupted at once."""
        raising = ast.parse("raise KeyboardInterrupt").body[0]
        place = tree.body[0] if tree.body else raising
        for node in ast.walk(raising):
            ast.copy_location(node, place)
        tree.body.insert(0, raising)
        return tree
