"""Who this process is, in names that stay unique across containers, reboots and reused process ids."""

from __future__ import annotations

import functools
import os
from pathlib import Path

__all__ = ["boot_id", "process_id"]


@functools.lru_cache(maxsize=1)
def boot_id() -> str:
    """Return the kernel's boot id, or ``unknown-boot`` where the platform has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown-boot"


def process_id() -> str:
    """Return ``<boot id>:<pid>:<start>``, with the start in clock ticks since boot (0 where unknown).

    The result is cached per process id, so a forked child gets its own name.
    """
    return _process_id(os.getpid())


@functools.lru_cache(maxsize=4)
def _process_id(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        # Field 22, counted after the command name, which may itself hold spaces and brackets.
        start = stat.rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        start = "0"
    return f"{boot_id()}:{pid}:{start}"
