"""The codes of one chunk's rows."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from titan_nb.chat import bits
from titan_nb.chat.catalog import CHUNK_ROWS
from titan_nb.chat.codes import Codes, quantise
from titan_nb.chat.faiss_scan import FaissRows

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.gpu import DeviceRows

__all__ = ["Index"]

_FIRST_ROWS = 1024


class Index:
    """What a search reads in place of the rows of one chunk: codes in RAM, or a copy on a GPU.

    The int8 codes cover the first ``count`` rows, the sketches of one bit a number the first
    ``sketched_count``, and what faiss keeps in their place the first ``faiss_count``; they are made by the
    searches that use them. All methods may be called from any thread; arrays that were handed out stay as
    they are.

    Args:
        dimension: Numbers per row.

    Attributes:
        device_rows: The rows on a GPU, or None.
        searched: Whether a search has gone over these rows before: the first does without codes, so that a
            memory which was just opened answers at once.
    """

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self.device_rows: DeviceRows | None = None
        self.searched = False
        self._lock = threading.Lock()
        self._codes: Codes | None = None
        self._count = 0
        self._sketches: np.ndarray | None = None
        self._sketched_count = 0
        self._faiss_rows: FaissRows | None = None
        self._faiss_failed = False

    @property
    def count(self) -> int:
        """Number of rows that have codes."""
        return self._count

    @property
    def sketched_count(self) -> int:
        """Number of rows that have sketches."""
        return self._sketched_count

    @property
    def faiss_count(self) -> int:
        """Number of rows that faiss keeps."""
        faiss_rows = self._faiss_rows
        return 0 if faiss_rows is None else faiss_rows.count

    @property
    def host_bytes(self) -> int:
        """What codes, sketches and faiss take in RAM, with the room kept for rows to come."""
        kept = self._codes, self._sketches, self._faiss_rows
        return sum([0 if one is None else one.nbytes for one in kept])

    def extend(self, rows: np.ndarray) -> None:
        """Make the codes that are missing for ``rows``, which begin with the rows that have codes."""
        self.codes(rows)

    def codes(self, rows: np.ndarray) -> Codes:
        """Return the codes of these rows, made up to date first."""
        last = len(rows)
        with self._lock:
            codes = self._codes
            if codes is None or last > len(codes.values):
                codes = Codes.empty(_room(last), self.dimension, codes)
            if last > self._count:
                quantise(rows[self._count :], codes.part(self._count, last))
                self._codes, self._count = codes, last
            return codes.part(0, last)

    def sketches(self, rows: np.ndarray) -> np.ndarray:
        """Return the sketches of these rows, uint64 (w, n), made up to date first."""
        import numpy as np

        last = len(rows)
        with self._lock:
            sketches = self._sketches
            if sketches is None or last > sketches.shape[1]:
                sketches = np.empty((bits.words_of(self.dimension), _room(last)), dtype=np.uint64)
                if self._sketches is not None:
                    sketches[:, : self._sketched_count] = self._sketches[:, : self._sketched_count]
            if last > self._sketched_count:
                bits.sketch(rows[self._sketched_count :], sketches[:, self._sketched_count : last])
                self._sketches, self._sketched_count = sketches, last
            return sketches[:, :last]

    def faiss_rows(self, rows: np.ndarray) -> FaissRows | None:
        """Return these rows as faiss keeps them, made up to date first; None once faiss has failed."""
        with self._lock:
            if self._faiss_failed:
                return None
            try:
                faiss_rows = self._faiss_rows or FaissRows(self.dimension)
                faiss_rows.extend(rows)
            # Whatever it is: there are sketches.
            except Exception:
                self._faiss_rows, self._faiss_failed = None, True
                return None
            self._faiss_rows = faiss_rows
            return faiss_rows

    def release(self) -> None:
        """Drop codes, sketches and what faiss keeps; the searches that want them make them again."""
        with self._lock:
            self._faiss_rows = None
            self._codes, self._count = None, 0
            self._sketches, self._sketched_count = None, 0


def _room(rows: int) -> int:
    """Return for how many rows room is made: growing one by one must not copy all each time."""
    return rows if rows >= CHUNK_ROWS else min(CHUNK_ROWS, max(_FIRST_ROWS, 2 * rows))
