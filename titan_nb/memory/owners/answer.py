"""From the blocks that a walk has found to rows with names."""

from __future__ import annotations

import mmap
import time
from collections import defaultdict
from collections.abc import Iterator

from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.owners.names import Names
from titan_nb.memory.owners.reconcile import without_name
from titan_nb.memory.owners.report import DeviceTotal, Owners, Row
from titan_nb.memory.owners.roots import Kind
from titan_nb.memory.owners.sharing import groups_by_node
from titan_nb.memory.owners.storages import Storage
from titan_nb.memory.owners.walk import Walk

__all__ = ["NO_NAME", "answer", "holder_of"]

NO_NAME = "no Python name"
_LEAST_ROWS = 50
_MOST_ROWS = 1000
_MOST_SHARED = 5


def answer(walk: Walk, stopped_at: str, until: float) -> Owners:
    """Return what a walk has found, with what it left out.

    Args:
        walk: The search.
        stopped_at: What was left out, and why.
        until: When, on `time.perf_counter`, blocks are no more named one by one.
    """
    found = _Answer(walk, until)
    for count, block in enumerate(found.blocks):
        in_time = count < _LEAST_ROWS or time.perf_counter() < until
        found.add(block, alone=in_time and count < _MOST_ROWS)
    return found.owners(stopped_at)


def holder_of(block: Storage) -> int:
    """Return the identity of the object that gives a block its name: the first that shows all of it."""
    return next((one for one in block.holders if one not in block.partial), block.holders[0])


class _Sum:
    """What one name holds.

    Attributes:
        size_bytes: All of it.
        frees_bytes: What nobody else holds.
        groups: All who hold some of it, as bits.
        count: How many blocks it is.
    """

    __slots__ = ("count", "frees_bytes", "groups", "size_bytes")

    def __init__(self) -> None:
        self.size_bytes = self.frees_bytes = self.groups = self.count = 0

    def add(self, size_bytes: int, frees_bytes: int, groups: int) -> None:
        self.size_bytes += size_bytes
        self.frees_bytes += frees_bytes
        self.groups |= groups
        self.count += 1


class _Answer:
    def __init__(self, walk: Walk, until: float) -> None:
        self.blocks = sorted(walk.storages.blocks(), key=lambda block: -block.size_bytes)
        holders = [holder for block in self.blocks for holder in block.holders]
        self._groups, self._bits = groups_by_node(walk, holders)
        self._root_kinds = {root.owner: root.kind for root in walk.roots}
        self._names = Names(walk, until)
        self._rows: list[Row] = []
        self._rest: dict[tuple[str, Kind, str], _Sum] = defaultdict(_Sum)
        self._sums: dict[tuple[int, Kind, str], _Sum] = defaultdict(_Sum)
        self._named_bytes: dict[str, int] = defaultdict(int)
        self._placed: dict[str, dict[int, int]] = defaultdict(dict)

    def add(self, block: Storage, *, alone: bool) -> None:
        """Take up one block, in a row of its own or added up with others of the same root."""
        groups = 0
        for holder in block.holders:
            groups |= self._bits.get(holder, 0)
        holder = holder_of(block)
        owner, size, device = self._names.root(holder).owner, block.size_bytes, block.device
        frees = 0 if groups & (groups - 1) else size
        if alone:
            name, kind = self._names.of(holder)
            if holder in block.partial and kind == "variable":
                kind = "view"
            if type(block.anchor) is mmap.mmap:
                kind = "mapped"
            self._rows.append(Row(name, kind, device, size, frees, self._others(groups, owner)))
        else:
            kind = self._root_kinds[owner]
            self._rest[owner, kind, device].add(size, frees, groups)
        self._placed[device][block.address or -id(block)] = size
        if kind not in ("mapped", "no name"):
            self._named_bytes[device] += size
        for position in _positions(groups):
            own = self._root_kinds[self._groups[position]]
            if own != "no name":  # nothing that could be deleted
                self._sums[position, (kind if own == "variable" else own), device].add(size, frees, groups)

    def owners(self, stopped_at: str) -> Owners:
        """Return the answer."""
        rows = self._rows + [
            Row(f"{owner} ({one.count:,} smaller)", kind, device, one.size_bytes, one.frees_bytes)
            for (owner, kind, device), one in self._rest.items()
        ]
        names = [
            Row(name, kind, device, one.size_bytes, one.frees_bytes, self._others(one.groups, name))
            for (position, kind, device), one in self._sums.items()
            for name in (self._groups[position],)
        ]
        totals = {device: DeviceTotal(size) for device, size in self._named_bytes.items()}
        gpu = accelerator()
        for index, device in ({} if gpu is None else gpu.keys()).items():
            try:
                allocated = gpu.allocated_bytes(index)  # type: ignore[union-attr]
            except Exception:
                stopped_at = "; ".join(filter(None, (stopped_at, f"{device} could not be asked")))
                continue
            totals[device] = DeviceTotal(self._named_bytes[device], allocated)
            for what, size in without_name(gpu, index, self._placed[device], allocated).items():  # type: ignore[arg-type]
                name = f"{NO_NAME}: {what}" if what else NO_NAME
                rows.append(Row(name, "no name", device, size, 0))
        return Owners(_sorted(names), _sorted(rows), totals, stopped_at)

    def _others(self, groups: int, name: str) -> tuple[str, ...]:
        others = [self._groups[position] for position in _positions(groups)]
        others = [other for other in others if other != name]
        if len(others) > _MOST_SHARED:
            others[_MOST_SHARED:] = [f"{len(others) - _MOST_SHARED} more"]
        return tuple(others)


def _sorted(rows: list[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: -row.size_bytes))


def _positions(groups: int) -> Iterator[int]:
    while groups:
        lowest = groups & -groups
        yield lowest.bit_length() - 1
        groups ^= lowest
