"""A model of the memory's energy."""

from __future__ import annotations

import mmap
import os
import sys
import time

from titan_nb.energy.sensors import Reading
from titan_nb.host import process_id
from titan_nb.kept_file import KeptFile
from titan_nb.records import Energy

__all__ = ["WATTS_PER_GIB", "RamModel"]

WATTS_PER_GIB = 3 / 8
"""3 W per 8 GB, with GB = 1024^3 bytes.

Source: eco2ai 0.3.12, ``tools/tools_ram.py``; Budennyy et al. 2022, doi:10.1134/S1064562422060230.
"""

_GIB = 1024**3
_LINUX = sys.platform == "linux"
_PAGE_BYTES = mmap.PAGESIZE
_STATM_BYTES = 256  # seven numbers


class RamModel:
    """Resident memory of this process times a fixed power per GiB.

    The estimate takes the mean of the resident memory at both ends of the window, the interval the smaller
    and the larger of the two. A peak in between, and the error of the model itself, are not in it.

    The value of a reading is resident memory in bytes.
    """

    name = "memory of this process"
    source = "model: 0.375 W per GiB of resident memory (eco2ai)"
    blocking = False
    counter = False
    refresh_seconds: float | None = None

    def __init__(self) -> None:
        self.key = f"ram:{process_id()}"
        self._statm = KeptFile("/proc/self/statm", os.O_RDONLY)

    def read(self) -> Reading:
        """Read the resident memory."""
        before = time.perf_counter()
        resident = self._resident_bytes()
        return Reading((before + time.perf_counter()) / 2, float(resident))

    def energy(self, begin: Reading, end: Reading, started: float, ended: float) -> Energy:
        """Return resident GiB times seconds times `WATTS_PER_GIB`."""
        joules = [WATTS_PER_GIB * (ended - started) * reading.value / _GIB for reading in (begin, end)]
        return Energy(sum(joules) / 2, min(joules), max(joules), "modelled", self.source)

    def close(self) -> None:
        """Close the file; it is opened again when needed."""
        self._statm.close()

    def _resident_bytes(self) -> int:
        if _LINUX:
            pages = os.pread(self._statm.descriptor(), _STATM_BYTES, 0).split()[1]
            return int(pages) * _PAGE_BYTES
        import psutil

        return int(psutil.Process().memory_info().rss)
