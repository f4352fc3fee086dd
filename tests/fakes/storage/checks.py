"""What must be true of a memory's folder, whatever happened to it."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.fakes.storage.writer import State, held
from titan_nb.chat.folder import Folder
from titan_nb.chat.local import LocalStore
from titan_nb.chat.recover import verify

__all__ = ["contents", "fast_folder", "reopened"]


@contextlib.contextmanager
def fast_folder(otherwise: Path) -> Iterator[Path]:
    """Give a folder in memory where there is one: for thousands of syncs that are not what is tested."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield otherwise
        return
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def reopened(folder: Path) -> State:
    """Open a memory for writing, see that nothing was lost, cut or left over, and return what is there."""
    store = LocalStore(Folder.open(folder))
    try:
        assert store.recovered == ()
        return held(store)[0]
    finally:
        store.close()
        assert_tidy(folder)


def assert_tidy(folder: Path) -> None:
    """Every file is named by the catalogue and as long as it says, and every checksum is right."""
    reader = Folder.open(folder, "r")
    connection = reader.connect()
    chunks = {row[0]: row[1:] for row in connection.execute("SELECT number, dimension, count FROM chunks")}
    assert reader.numbers() == chunks.keys()
    for number, (dimension, count) in chunks.items():
        segment = reader.segment(number, dimension, count)
        assert segment.path.stat().st_size == segment.file_bytes
    assert verify(connection, reader) == ()
    connection.close()


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
