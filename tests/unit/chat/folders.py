"""Folders of memories with one note in them, and other processes that look at them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from titan_nb.chat.folder import Folder

__all__ = ["in_process", "made", "notes"]


def made(place: Path) -> Path:
    """Make a memory with one note, and close it."""
    folder = Folder.open(place)
    connection = folder.connect()
    connection.execute("CREATE TABLE notes (text TEXT)")
    connection.execute("INSERT INTO notes VALUES ('kept')")
    connection.close()
    folder.close()
    return place


def notes(folder: Folder) -> list[str]:
    connection = folder.connect()
    try:
        return [text for (text,) in connection.execute("SELECT text FROM notes")]
    finally:
        connection.close()


def in_process(script: str, *arguments: object) -> str:
    # Whoever gives up his rights below may not be able to read the standard library afterwards.
    imports = "import fcntl, os, sys\nfrom titan_nb.chat.folder import Folder\n"
    imports += "from titan_nb.errors import ChatError\n"
    command = [sys.executable, "-c", imports + script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
