"""Limits that a cell sets in its first line, as ``%%titan --ram-limit`` does, and that end with the cell."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from IPython import get_ipython

from titan_nb.memory.limits import Limit
from titan_nb.memory.sizes import bytes_of
from titan_nb.notebook.ctrl_c import CtrlC

MECHANISMS: list[str] = []
LINES: list[str | None] = []

# An endless cell whose limit does not work must not take the whole machine.
resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))

_open: tuple[Limit, CtrlC] | None = None


def soft_limit() -> int:
    """Return the limit on data in bytes; -1 for none."""
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


def gpu(size: str) -> None:
    """Limit each GPU until the running cell ends."""
    _begin(bytes_of(size), None)


def ram(size: str) -> None:
    """Limit the memory of this process until the running cell ends."""
    _begin(None, bytes_of(size))


def more_ram(size: str) -> None:
    """Limit it to so much more than is held: what earlier cells took is not all given back when freed."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    held = next(line for line in status.splitlines() if line.startswith("RssAnon:"))
    _begin(None, (int(held.split()[1]) << 10) + bytes_of(size))


def _begin(gpu_bytes: int | None, ram_bytes: int | None) -> None:
    global _open
    ctrl_c = CtrlC(_shell, threading.get_ident())
    _open = Limit.open(gpu_bytes, ram_bytes, _every, ctrl_c.send), ctrl_c


def _post_run_cell(result: Any) -> None:
    global _open
    if _open is None:
        return
    (limit, ctrl_c), _open = _open, None
    ctrl_c.close()
    assert limit.close() is None
    MECHANISMS.append(limit.mechanism)
    error = result.error_in_exec
    LINES.append(None if error is None else limit.explain(error))


def _every(seconds: float, job: Callable[[], None]) -> Callable[[], None]:
    done = threading.Event()

    def run() -> None:
        while not done.wait(seconds):
            job()

    threading.Thread(target=run, daemon=True).start()
    return done.set


_shell = get_ipython()
_shell.events.register("post_run_cell", _post_run_cell)
