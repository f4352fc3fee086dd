"""Files of rows for the time being, of a memory that has no folder."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path

from titan_nb.chat.segment import Segment

__all__ = ["Scratch"]


class Scratch:
    """A private temporary folder, made when the first chunk goes to disk, and gone with this object."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._gone: Callable[[], object] | None = None

    def segment(self, number: int, dimension: int, count: int) -> Segment:
        """Open the file of a chunk, of which the first ``count`` rows count."""
        return Segment.open(self._file(number), dimension, count)

    def new_segment(self, number: int, dimension: int) -> Segment:
        """Make the file of a chunk.

        Raises:
            ResourceError: If the disk is full.
        """
        self._file(number).unlink(missing_ok=True)
        return Segment.create(self._file(number), dimension)

    def remove(self, number: int) -> None:
        """Remove the file of a chunk, if it is there."""
        if self._path is not None:
            self._file(number).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove all files."""
        if self._gone is not None:
            self._gone()
            self._path = self._gone = None

    def _file(self, number: int) -> Path:
        # Long-running systems clean their temporary folders.
        if self._path is None or not self._path.is_dir():
            self._path = Path(tempfile.mkdtemp(prefix="titan-chat-"))
            self._gone = weakref.finalize(self, _remove, self._path, os.getpid())
        return self._path / f"{number}.rows"


def _remove(path: Path, process: int) -> None:
    # A forked child ends too, and the files are its parent's.
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)
