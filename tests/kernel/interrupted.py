"""A kernel that is interrupted at a given moment, and what became of the interrupt."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from tests.kernel.cell import Cell
from tests.kernel.kernel import Kernel, Observed

__all__ = ["END", "LOOP_ENDED", "InterruptedKernel", "Shot"]

END = "the end"
"""What a cell prints last when the interrupt is aimed at what comes after the cell."""

LOOP_ENDED = "an interrupt ended the event loop"
"""What the kernel's log says, above the traceback, when an interrupt met ipykernel's own event loop."""

REPLY_SECONDS = 0.5
LONGEST_SECONDS = 30.0
SIGINT_BIT = 1 << 1


@dataclass(frozen=True)
class Shot:
    """One interrupt and what it did.

    Attributes:
        observed: What the cell made the kernel say; its status is empty when no reply ever came.
        sent: When the signal was sent, on the machine's monotonic clock in seconds.
        over: When the kernel was idle again, on the same clock.
    """

    observed: Observed
    sent: float
    over: float


class InterruptedKernel(Kernel):
    """A kernel in which an interrupt may also swallow the reply of a cell, as it can in any ipykernel."""

    launcher = (str(Path(__file__).parent / "inside" / "launch_and_log.py"), LOOP_ENDED)
    torn = 0
    """How many messages came in pieces."""

    def shoot(self, cell: str, delay_seconds: float, *, after_end: bool) -> Shot:
        """Run ``cell`` and interrupt it ``delay_seconds`` after it was sent, or after it printed `END`."""
        sent: list[float] = []

        def interrupt() -> None:
            sent.append(time.monotonic())
            self.interrupt()

        timer = threading.Timer(delay_seconds, interrupt)
        message_id = self.send(Cell(cell))
        if not after_end:
            timer.start()
        entry = self._open[message_id]
        while after_end and timer.ident is None:
            for socket, _ in self._poller.poll(10):
                self._dispatch(socket)
            if END in entry.observed.text or entry.idle:
                timer.start()
        observed = self.collect(message_id)
        over = time.monotonic()
        timer.join()
        return Shot(observed, sent[0], over)

    def collect(self, message_id: str) -> Observed:
        """Wait until a cell has ended; its status stays empty if the kernel is idle and has not replied.

        Raises:
            KernelDiedError: If the kernel ended or did not become idle in time.
        """
        entry = self._open[message_id]
        deadline = time.monotonic() + LONGEST_SECONDS
        half = None
        while not (entry.observed.status and entry.idle):
            for socket, _ in self._poller.poll(10):
                self._dispatch(socket)
            if entry.observed.status or entry.idle:
                half = half or time.monotonic()
                if time.monotonic() > half + REPLY_SECONDS:
                    break
            self._check_alive(deadline)
        del self._open[message_id]
        return entry.observed

    def _receive(self, socket: zmq.Socket[Any]) -> dict[str, Any]:
        """Return the next message; a mark in its place if an interrupt in the kernel tore it in two."""
        try:
            return super()._receive(socket)
        except (ValueError, TypeError, IndexError):
            self.torn += 1
            return {"msg_type": "torn", "parent_header": {}, "content": {}}

    def ignores_interrupts(self) -> bool:
        """Return whether the process ignores SIGINT now, as ipykernel does between two requests."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        ignored = next(line for line in status.splitlines() if line.startswith("SigIgn:"))
        return bool(int(ignored.split()[1], 16) & SIGINT_BIT)
