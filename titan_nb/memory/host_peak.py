"""Resident memory of this process and its peak.

Linux keeps the peak in ``VmHWM`` and resets it when "5" is written to ``/proc/self/clear_refs``
(https://man7.org/linux/man-pages/man5/proc_pid_clear_refs.5.html). The reset also lowers what
``resource.getrusage().ru_maxrss`` says, so the true maximum of the process is kept here. `getrusage` itself
is left as it is: most who ask for that figure read /proc or call the C library, and would not pass through a
replacement, so two of the user's own figures would contradict each other. Who needs ``ru_maxrss`` untouched
turns ``exact_host_peak`` off.

The mark misses nothing, but the kernel counts in batches: since Linux 6.2 each CPU that the process ran on
may hold back up to max(32, 2 x CPUs) pages (lib/percpu_counter.c).
"""

from __future__ import annotations

import contextlib
import mmap
import os

from titan_nb.host import process_id
from titan_nb.kept_file import KeptFile
from titan_nb.memory.fold import Level

__all__ = ["HostPeak"]

_PROBE_BYTES = 8 << 20
_STATUS_BYTES = 8192  # Much more than the file up to VmRSS, except for users in thousands of groups.


class HostPeak:
    """The high-water mark of this process's resident memory.

    Files of /proc are kept open, because opening costs more than reading. They belong to the process
    that opened them: a forked child must not use the object it inherited.

    Args:
        status: The file with ``VmRSS`` and ``VmHWM``.
        clear_refs: The file that resets ``VmHWM``.
    """

    source = "VmHWM"

    def __init__(self, status: str = "/proc/self/status", clear_refs: str = "/proc/self/clear_refs") -> None:
        self._status = KeptFile(status, os.O_RDONLY)
        self._clear_refs = KeptFile(clear_refs, os.O_WRONLY)
        self._resettable: bool | None = None
        self._highest_bytes = 0

    @property
    def key(self) -> str:
        """The device key of this process's memory."""
        return f"ram:{process_id()}"

    @property
    def resettable(self) -> bool:
        """Whether the mark really follows a reset; tried out at the first call, then remembered."""
        if self._resettable is None:
            self._resettable = self._probe()
        return self._resettable

    @property
    def process_peak_bytes(self) -> int | None:
        """The most this process ever held, whatever was reset in between; None when unknown."""
        with contextlib.suppress(OSError, ValueError):  # What was seen before still holds.
            self._read()
        return self._highest_bytes or None

    def take(self) -> dict[str, Level]:
        """Return the level of this process and reset the mark.

        Raises:
            OSError: If /proc cannot be read or written.
            ValueError: If it holds something else than expected.
        """
        try:
            level = self._read()
            os.write(self._clear_refs.descriptor(), b"5")
        except (OSError, ValueError):
            self._resettable = None  # Worked before: try again at the next window.
            raise
        return {self.key: level}

    def resident(self) -> tuple[int, str] | None:
        """Return resident memory in bytes and where it was read; None where nobody knows it."""
        try:
            return self._read().current_bytes, "VmRSS"
        except (OSError, ValueError):
            return _psutil_resident()

    def close(self) -> None:
        """Close the files; they are opened again when needed."""
        self._status.close()
        self._clear_refs.close()

    def _read(self) -> Level:
        text = os.pread(self._status.descriptor(), _STATUS_BYTES, 0)
        level = Level(_size_bytes(text, b"\nVmRSS:"), _size_bytes(text, b"\nVmHWM:"))
        self._highest_bytes = max(self._highest_bytes, level.peak_bytes)
        return level

    def _probe(self) -> bool:
        """Return whether a short allocation shows in the mark, and a reset takes it away again.

        Sandboxes may accept the write and do nothing. Another thread can spoil a trial by allocating at
        the same moment, so there are three. Half is enough, for the kernel's batches may hide the rest.
        """
        enough = _PROBE_BYTES // 2
        try:
            for _ in range(3):
                self.take()
                with mmap.mmap(-1, _PROBE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as block:
                    for offset in range(0, _PROBE_BYTES, mmap.PAGESIZE):
                        block[offset] = 1
                raised = self.take()[self.key].peak_bytes
                lowered = self._read().peak_bytes
                if raised - lowered >= enough:
                    return True
        except (OSError, ValueError):
            return False  # No /proc, no permission, or no memory for the trial.
        return False


def _size_bytes(status: bytes, label: bytes) -> int:
    """Return the size after ``label``; the kernel's "kB" are 1024 bytes."""
    start = status.index(label) + len(label)
    return int(status[start : status.index(b" kB", start)]) * 1024


def _psutil_resident() -> tuple[int, str] | None:
    import psutil

    try:
        return psutil.Process().memory_info().rss, "RSS from psutil"
    except (psutil.Error, OSError):
        return None
