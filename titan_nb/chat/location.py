"""Where a memory is kept: in this process, in a folder, or in PostgreSQL."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import urlsplit

from titan_nb.chat.disk import disk_error, flush_folder
from titan_nb.chat.store import Batch, Selection, Store, StoredItem
from titan_nb.errors import ChatError, SettingsError

if TYPE_CHECKING:
    from titan_nb.chat.local import LocalStore

__all__ = ["check_folder", "described", "move", "open_store"]

_SCHEMES = ("postgresql://", "postgres://")
_COPIED_ROWS = 8192


def open_store(
    location: Any, mode: str, *, device: str | None, budgets: Mapping[str, int | str] | None
) -> Store:
    """Open what ``location`` names; see `ChatMemory`.

    Raises:
        ChatError: If it cannot be opened.
        SettingsError: If the device or a budget cannot be used.
    """
    if mode not in ("r", "w"):
        raise ChatError(f"mode is {mode!r}: give 'w', or 'r' to read only")
    servers = _servers(location)
    if servers:
        if device is not None or budgets is not None:
            raise SettingsError("a memory on servers has no device and no budgets here: leave them out")
        from titan_nb.chat.postgres import PostgresStore

        return PostgresStore(servers)
    from titan_nb.chat.local import LocalStore
    from titan_nb.chat.tiers import Tiers, read_budgets

    tiers = Tiers(read_budgets(budgets), device)
    if location is None:
        if mode == "r":
            raise ChatError("mode is 'r' without a location: there is nothing to read; give a path")
        return LocalStore(tiers=tiers)
    from titan_nb.chat.folder import Folder

    return LocalStore(Folder.open(_path(location), cast("Literal['r', 'w']", mode)), tiers=tiers)


def described(location: Any) -> str:
    """Return where a memory is, in words without a password."""
    servers = _servers(location)
    if not servers:
        return "memory" if location is None else str(_path(location))
    parts = [urlsplit(server) for server in servers]
    return ", ".join(f"postgresql://{part.netloc.rpartition('@')[2]}{part.path}" for part in parts)


def check_folder(path: Any, *, missing: bool) -> None:
    """Refuse a path where a memory is, if it should be ``missing``, or where none is, if it should not.

    Raises:
        ChatError: If it is not as it should be, or no path but a server.
    """
    from titan_nb.chat.folder import Folder

    if _servers(path):
        raise ChatError("a server is no folder: give the path of a folder; ChatMemory(...) opens a server")
    folder = _path(path)
    if missing:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ChatError(f"{folder} is there already, and not empty: give another path, or open that one")
    elif not Folder.holds_memory(folder):
        raise ChatError(f"there is no chat memory in {folder}: give the folder that one was saved in")


def move(store: Store, path: Any, *, device: str | None, budgets: Mapping[str, int | str] | None) -> Store:
    """Copy all items into a new folder, and return the store that stands there; ``store`` stays open.

    The copy is made beside the folder and then renamed, so that nobody ever sees half of it.

    Raises:
        ChatError: If something is there already.
        ResourceError: If the disk is too full.
    """
    from titan_nb.chat.folder import Folder
    from titan_nb.chat.local import LocalStore

    check_folder(path, missing=True)
    folder = _path(path).resolve()
    beside = _beside(folder)
    try:
        copy = LocalStore(Folder.open(beside))
        try:
            _copy(store, copy)
        finally:
            copy.close()
        try:
            beside.rename(folder)
        except OSError as error:  # somebody put something there meanwhile
            check_folder(path, missing=True)
            raise disk_error(error, "saving a memory", folder.parent) from error
        flush_folder(folder.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return open_store(folder, "w", device=device, budgets=budgets)


def _beside(folder: Path) -> Path:
    """Make a folder that is nobody else's on the same disk."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    except OSError as error:
        raise disk_error(error, "saving a memory", folder.parent) from error


def _copy(source: Store, target: LocalStore) -> None:
    from titan_nb.chat.local import LocalStore

    if isinstance(source, LocalStore):
        target.count_from(source.next_id)
    for chat_id, held in source.chats().items():
        items = source.items(Selection(chat_id=chat_id), embeddings=True)
        for part in _parts(items):
            target.add(chat_id, _batch(part, held.encoder))


def _parts(items: Iterator[StoredItem]) -> Iterator[list[StoredItem]]:
    part: list[StoredItem] = []
    for item in items:
        part.append(item)
        if len(part) == _COPIED_ROWS:
            yield part
            part = []
    if part:
        yield part


def _batch(items: Sequence[StoredItem], encoder: str | None) -> Batch:
    import numpy as np

    return Batch(
        np.stack([item.embedding for item in items if item.embedding is not None]),
        [item.text for item in items],
        [item.metadata for item in items],
        [item.time for item in items],
        [item.id for item in items],
        encoder,
    )


def _servers(location: Any) -> list[str]:
    """Return the addresses of servers, if that is what ``location`` is."""
    given = [location] if isinstance(location, str) else location
    if not isinstance(given, (list, tuple)):
        return []
    servers = [one for one in given if isinstance(one, str) and one.startswith(_SCHEMES)]
    if len(servers) != len(given) and not isinstance(location, str):
        raise ChatError("a list of locations names PostgreSQL servers: each starts with postgresql://")
    return servers


def _path(location: Any) -> Path:
    if not isinstance(location, (str, os.PathLike)) or not os.fspath(location):
        raise ChatError(
            f"location is a {type(location).__name__}: give the path of a folder or postgresql://... "
            "(an encoder goes by name: ChatMemory(encoder=...))"
        )
    return Path(os.fspath(location)).expanduser().absolute()
