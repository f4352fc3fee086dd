"""The copies of chunks on one GPU: made for searches, dropped as soon as anybody else needs the room."""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from titan_nb.chat.device import resolve
from titan_nb.chat.gpu import DeviceRows
from titan_nb.errors import ResourceError
from titan_nb.memory.accelerator import Accelerator, accelerator
from titan_nb.memory.headroom import spare_bytes
from titan_nb.memory.reclaim import register_yielder

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.index import Index

__all__ = ["Copies"]

# As many rows take the host about 40 us, which is less than a GPU needs to begin.
_FEWEST_ROWS = 1024


@dataclass(slots=True)
class _Copied:
    """An index with a copy, and the search that used it last."""

    index: weakref.ref[Index]
    search: int


class Copies:
    """Copies of chunks on one GPU; when there is too little room, those not used for longest go.

    What one search uses never makes room for another part of the same search: of more than there is room
    for, always the same part has copies. A copy hangs on its index, as ``index.device_rows``, and is gone
    with it.

    Args:
        budget_bytes: The most that they may take; None for what the device can spare.
        device: The device; None for the one that the user is using by the time of a search, and none before.

    Raises:
        SettingsError: If the device cannot be used.
    """

    def __init__(self, budget_bytes: int | None, device: str | None) -> None:
        self._budget_bytes = budget_bytes
        self._device = None if device is None else str(resolve(device))
        self._lock = threading.RLock()  # reentrant: a finaliser that runs meanwhile may search
        self._copied: OrderedDict[int, _Copied] = OrderedDict()  # by id of the index, the oldest use first
        self._search = 0
        self._stop_yielding: Callable[[], None] | None = None

    @property
    def device_bytes(self) -> int:
        """What they take."""
        with self._lock:
            return self._held_bytes()

    def use(self, tables: Sequence[tuple[Index, np.ndarray]]) -> None:
        """Copy the tables that a search is about to use, as far as there is room.

        Args:
            tables: The rows of each chunk with its index.
        """
        device = self._find_device()
        if device is None:
            return
        with self._lock:
            self._search += 1
            behind = [(index, rows) for index, rows in tables if not self._mark(index, len(rows))]
            if behind:
                # A device that is broken, or of the parent of this process: the host can do it all.
                with contextlib.suppress(RuntimeError):
                    self._copy_all(behind, device)

    def yield_bytes(self, needed: int, device_key: str) -> int:
        """Drop copies on this device until ``needed`` bytes are given back; return how many were."""
        found = None if self._device is None else _accelerator_of(self._device)
        if found is None or found[0].keys()[found[1]] != device_key:
            return 0
        with self._lock:
            self._search += 1
            return self._drop(needed)

    def close(self) -> None:
        """Drop all of them."""
        with self._lock:
            self._search += 1
            self._drop(self._held_bytes())
            if self._stop_yielding is not None:
                self._stop_yielding()
                self._stop_yielding = None

    def _find_device(self) -> str | None:
        if self._device is None and (gpu := accelerator()) is not None:
            self._device = f"{gpu.kind}:{gpu.current_index()}"
        return self._device

    def _mark(self, index: Index, count: int) -> bool:
        """Note that an index is used; return whether nothing is to be copied for it."""
        entry, copy = self._copied.get(id(index)), index.device_rows
        if entry is None or copy is None or entry.index() is not index:
            return count < _FEWEST_ROWS
        entry.search = self._search
        self._copied.move_to_end(id(index))
        return copy.count >= count

    def _room(self, device: str) -> int:
        """Return what may be taken without dropping anything; negative where too much is held already."""
        rooms = [] if self._budget_bytes is None else [self._budget_bytes - self._held_bytes()]
        found = _accelerator_of(device)
        spare = None if found is None else spare_bytes(*found)
        if spare is not None:
            rooms.append(spare)
        # Where nobody says what is free, torch does when it runs out.
        return min(rooms, default=sys.maxsize)

    def _copy_all(self, tables: Sequence[tuple[Index, np.ndarray]], device: str) -> None:
        room, idle = self._room(device), sum(map(_size, self._idle()))
        for index, rows in tables:
            copy = index.device_rows
            more = (
                DeviceRows.bytes_needed(*rows.shape)
                if copy is None
                else copy.bytes_with(len(rows)) - copy.device_bytes
            )
            if room < more <= room + idle:
                given = self._drop(more - room)
                room, idle = room + given, idle - given
            if more > room:
                continue
            try:
                self._copy(index, rows, device)
            except ResourceError:  # somebody was faster, or a limit is in the way
                self._drop(more)
                return
            room -= more

    def _copy(self, index: Index, rows: np.ndarray, device: str) -> None:
        copy = index.device_rows
        if copy is not None:
            copy.extend(rows)
            return
        index.device_rows = DeviceRows(rows, device)
        self._copied[id(index)] = _Copied(weakref.ref(index), self._search)
        if self._stop_yielding is None:
            self._stop_yielding = _register(weakref.ref(self))

    def _idle(self) -> list[_Copied]:
        """Return the copies that this search does not use, the oldest first."""
        for key in [key for key, entry in self._copied.items() if not _size(entry)]:
            del self._copied[key]
        return [entry for entry in self._copied.values() if entry.search != self._search]

    def _drop(self, needed: int) -> int:
        """Drop idle copies until ``needed`` bytes are given; return how many were."""
        given = 0
        for entry in self._idle():
            if given >= needed:
                break
            given += _size(entry)
            index = entry.index()
            if index is not None:
                index.device_rows = None
        return given

    def _held_bytes(self) -> int:
        return sum(map(_size, self._copied.values()))


def _size(entry: _Copied) -> int:
    index = entry.index()
    copy = None if index is None else index.device_rows
    return 0 if copy is None else copy.device_bytes


def _accelerator_of(device: str) -> tuple[Accelerator, int] | None:
    """Return the accelerator that a device belongs to, and its number there; None if it is not in use."""
    gpu = accelerator()
    kind, _, number = device.partition(":")
    return (gpu, int(number)) if gpu is not None and gpu.kind == kind else None


def _register(found: weakref.ref[Copies]) -> Callable[[], None]:
    """Let the copies be asked for memory as long as they live."""

    def give(needed: int, device_key: str) -> int:
        copies = found()
        if copies is None:
            stop()
            return 0
        return copies.yield_bytes(needed, device_key)

    stop = register_yielder(give)
    return stop
