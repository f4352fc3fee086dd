"""A disk that forgets what was not synced.

The rules are those of POSIX, and harsher than a journalling file system: the content of a file is safe once
that file was synced, a name (made, renamed, removed) once its folder was. What was not synced may have
arrived all the same, whole or in part, in any order.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tests.fakes.storage.recording import Operation

__all__ = ["Disk", "coin"]

SECTOR = 512


class Inode:
    """A file: what is safe of it, and what was done since."""

    def __init__(self) -> None:
        self.safe = bytearray()
        self.pending: list[Operation] = []

    def content(self, arrives: Callable[[], bool]) -> bytes:
        """Return what is on the disk; of each sector written since the last sync it is asked."""
        held = bytearray(self.safe)
        for operation in self.pending:
            apply(held, operation, arrives)
        return bytes(held)

    def sync(self) -> None:
        self.safe = bytearray(self.content(lambda: True))
        self.pending = []


def apply(held: bytearray, operation: Operation, arrives: Callable[[], bool]) -> None:
    if operation.kind == "truncate":
        if arrives():
            del held[operation.number :]
            held.extend(bytes(operation.number - len(held)))
        return
    at, end = operation.number, operation.number + len(operation.data)
    while at < end:
        stop = min(end, at - at % SECTOR + SECTOR)
        if arrives():
            held.extend(bytes(max(0, stop - len(held))))
            held[at:stop] = operation.data[at - operation.number : stop - operation.number]
        at = stop


class Disk:
    """Names and files, as far as they are safe, and what happened since.

    Args:
        skip: Operations on paths that end so are left out, such as shared memory.
    """

    def __init__(self, skip: tuple[str, ...] = ("-shm",)) -> None:
        self._skip = skip
        self._names: dict[str, Inode | None] = {}
        """What a running system sees; None is a folder."""
        self._safe: dict[str, Inode | None] = {}
        self._pending: dict[str, list[tuple[str, Inode | None, bool]]] = {}
        """By folder: name, what it stands for, and whether it is there afterwards."""

    def play(self, operation: Operation) -> None:
        """Do what the process did."""
        path = operation.path
        if operation.kind == "say" or path.endswith((*self._skip, " (deleted)")):
            return
        if operation.kind == "mkdir":
            self._name(path, None, there=True)
        elif operation.kind == "create":
            self._name(path, Inode(), there=True)
        elif operation.kind == "unlink":
            self._name(path, None, there=False)
        elif operation.kind == "rename":
            held = self._names[path]
            self._name(operation.target, held, there=True)
            self._name(path, None, there=False)
        elif operation.kind == "sync":
            self._sync(path)
        else:
            inode = self._names[path]
            assert inode is not None
            inode.pending.append(operation)

    def save(self, folder: Path, arrives: Callable[[], bool] = lambda: False) -> None:
        """Make what is there after the power went, in a folder that does not exist.

        Args:
            folder: Where.
            arrives: Asked of each name and each sector that was not synced.
        """
        names = dict(self._safe)
        for changes in self._pending.values():
            for path, inode, there in changes:
                if arrives():
                    put(names, path, inode, there)
        folder.mkdir(parents=True)
        for path, inode in sorted(names.items()):
            if any(str(parent) not in names for parent in PurePosixPath(path).parents if str(parent) != "."):
                continue
            if inode is None:
                (folder / path).mkdir(exist_ok=True)
            else:
                (folder / path).write_bytes(inode.content(arrives))

    def _name(self, path: str, inode: Inode | None, *, there: bool) -> None:
        put(self._names, path, inode, there)
        if path:
            self._pending.setdefault(parent_of(path), []).append((path, inode, there))

    def _sync(self, path: str) -> None:
        if path and self._names[path] is not None:
            inode = self._names[path]
            assert inode is not None
            inode.sync()
            return
        for name, inode, there in self._pending.pop(path, []):
            put(self._safe, name, inode, there)


def put(names: dict[str, Inode | None], path: str, inode: Inode | None, there: bool) -> None:
    if there:
        names[path] = inode
    else:
        names.pop(path, None)


def parent_of(path: str) -> str:
    parent = str(PurePosixPath(path).parent)
    return "" if parent == "." else parent


def coin(seed: int, chance: float) -> Callable[[], bool]:
    """Return a coin that says yes with this chance, the same way each time it is made."""
    source = random.Random(seed)
    return lambda: source.random() < chance
