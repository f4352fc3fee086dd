"""Interrupt a running cell as Ctrl-C does, and nothing else: not the next cell, not the idle kernel."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from types import FrameType
from typing import Any

__all__ = ["CtrlC"]


class CtrlC:
    """One interrupt for one cell of the main thread; made when the cell begins, closed when it ends.

    Args:
        shell: The shell that runs the cell.
        thread: Identity of the thread in which it runs.
    """

    def __init__(self, shell: Any, thread: int) -> None:
        self._shell = shell
        self._lock = threading.Lock()
        self._open = True
        self.possible = thread == threading.main_thread().ident
        """Whether the cell can be interrupted at all: signals reach the main thread only."""

    def send(self) -> bool:
        """Interrupt the cell, from any thread; return False if this is not the moment, or it was done.

        The moment is right while the user's own code is on the main thread's stack, or while ipykernel waits
        for a cell that awaits and has put its own handler in place. Between those, IPython is at work, and an
        interrupt might end the kernel.
        """
        with self._lock:
            if not (self._open and self.possible and (self._in_user_code() or _kernel_waits())):
                return False
            self._open = False
            _raise_in_main_thread()
            return True

    def close(self) -> None:
        """Send no interrupt from now on.

        To be called under a `Shield`: one that was sent just before is noted there, and ends with the cell.
        """
        with self._lock:
            self._open = False

    def _in_user_code(self) -> bool:
        frame: FrameType | None = sys._current_frames().get(threading.main_thread().ident or 0)
        namespace = self._shell.user_global_ns
        while frame is not None:
            if frame.f_globals is namespace:
                return True
            frame = frame.f_back
        return False


def _kernel_waits() -> bool:
    """Say whether ipykernel turns an interrupt into the cancellation of the cell that it awaits."""
    handler = signal.getsignal(signal.SIGINT)
    return callable(handler) and (getattr(handler, "__module__", None) or "").startswith("ipykernel.")


def _raise_in_main_thread() -> None:
    main = threading.main_thread().ident
    if main is not None and hasattr(signal, "pthread_kill"):
        # Not to the process: a thread of the user's might take it, and the main thread would sleep on.
        signal.pthread_kill(main, signal.SIGINT)
    else:
        _thread.interrupt_main()
