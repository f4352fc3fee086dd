"""Keep Ctrl-C out of titan's own work, and hand it on where it belongs."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import _thread
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Shield", "interrupt_soon"]

# The C functions: those of `signal` try to make an enum of every handler, which costs ten times as much.
_SIGINT = int(signal.SIGINT)

MOMENT_SECONDS = 0.002
"""Long enough for IPython to leave its event callbacks; far below what a person notices."""


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


def interrupt_soon(submit: Callable[[Callable[[], None]], object]) -> None:
    """Interrupt the main thread a moment from now.

    Raised inside an event callback, an interrupt would be printed by IPython and lost; a moment later it
    meets the user's code, for which it was meant.

    Args:
        submit: Runs a job on another thread.
    """

    def interrupt() -> None:
        time.sleep(MOMENT_SECONDS)
        _thread.interrupt_main()

    submit(interrupt)
