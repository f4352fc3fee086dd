"""The folder that belongs to a notebook in the user's data folder."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

__all__ = ["data_home", "folder_of"]

_DIGITS = 8


def folder_of(shell: Any, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the folder for the chat memory of the notebook that ``shell`` runs; None if its name is unknown.

    VS Code tells the kernel the notebook's path in a variable, Jupyter in the environment. Notebooks of one
    name in two folders get two folders.
    """
    names = (
        shell.user_ns.get("__vsc_ipynb_file__"),
        shell.user_ns.get("__session__"),
        environ.get("JPY_SESSION_NAME"),
    )
    path = next((name for name in names if type(name) is str and PurePath(name).stem), None)
    if path is None:
        return None
    digest = hashlib.sha256(path.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return data_home(environ) / "chats" / f"{PurePath(path).stem}-{digest}"


def data_home(environ: Mapping[str, str] = os.environ, platform: str = sys.platform) -> Path:
    """Return titan's folder for the user's data.

    It is ``titan_nb`` in ``LOCALAPPDATA`` on Windows, in ``~/Library/Application Support`` on macOS, and
    elsewhere in ``XDG_DATA_HOME`` or ``~/.local/share``.
    """
    if platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "titan_nb"
    base = environ.get("LOCALAPPDATA" if platform == "win32" else "XDG_DATA_HOME", "")
    if Path(base).is_absolute():  # Others are to be ignored, says the XDG specification.
        return Path(base) / "titan_nb"
    return Path.home() / ".local" / "share" / "titan_nb"
