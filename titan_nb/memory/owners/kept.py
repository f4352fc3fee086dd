"""What a cell left behind, by name."""

from __future__ import annotations

import time
import weakref
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from titan_nb.memory.owners.answer import holder_of
from titan_nb.memory.owners.names import Names
from titan_nb.memory.owners.roots import Root, module_namespaces
from titan_nb.memory.owners.search import walk_in_order
from titan_nb.memory.owners.storages import Storage
from titan_nb.memory.owners.walk import Walk
from titan_nb.records import Kept

__all__ = ["KeptFinder"]

_MOST_NAMES = 20


class KeptFinder:
    """Tells what a cell left behind; one for each shell.

    A tensor's storage is known again by a weak reference to it, so that a new one at the address of an old
    one is new. An array that has a weak reference refuses to be resized, so arrays are known by identity,
    address and size; one that is made within a cell in the very place of another is not told from it.

    Args:
        seconds: Longest time that a look may take.
    """

    def __init__(self, seconds: float = 0.02) -> None:
        self._seconds = seconds
        self._before: dict[int, Any] = {}
        self._unfinished: set[str] = set()

    def begin(self, roots: Iterable[Root]) -> None:
        """Take note of what there is when a cell begins.

        Args:
            roots: The names to look at.
        """
        self._look(roots, tells=False)

    def end(self, roots: Iterable[Root]) -> tuple[Kept, ...]:
        """Return what has come since `begin`, or since the last `end`, the largest first.

        Names that could not be looked through to the end in `begin` are left out, for nobody knows what of
        theirs is new. A block with several names counts for the first.

        Args:
            roots: The names to look at.
        """
        return self._look(roots, tells=True)

    def _look(self, roots: Iterable[Root], *, tells: bool) -> tuple[Kept, ...]:
        started = time.perf_counter()
        walk = Walk(module_namespaces())
        try:
            walk_in_order(walk, roots, started, self._seconds)
            blocks = walk.storages.blocks()
            new = [block for block in blocks if not self._knows(block)] if tells else []
            kept = _by_name(Names(walk, started + self._seconds), walk, new, self._unfinished)
            # A storage that was not come to this time is still known, as long as it lives.
            self._before = {key: mark for key, mark in self._before.items() if _lives(mark)}
            self._before.update((id(block.anchor), _mark(block)) for block in blocks)
            self._unfinished = {root.owner for root in walk.unfinished}
            return kept
        finally:
            walk.close()

    def _knows(self, block: Storage) -> bool:
        mark = self._before.get(id(block.anchor))
        return mark() is block.anchor if type(mark) is weakref.ref else mark == _mark(block)


def _mark(block: Storage) -> Any:
    try:
        # Only storages: a weak reference would forbid an array to be resized.
        return weakref.ref(block.anchor) if block.is_torchs else _place(block)
    except TypeError:
        return _place(block)


def _place(block: Storage) -> tuple[int, int]:
    return block.address, block.size_bytes


def _lives(mark: Any) -> bool:
    return type(mark) is weakref.ref and mark() is not None


def _by_name(names: Names, walk: Walk, blocks: list[Storage], unfinished: set[str]) -> tuple[Kept, ...]:
    groups: dict[tuple[str, str], list[Storage]] = defaultdict(list)
    for block in blocks:
        owner = names.root(holder_of(block)).owner
        if owner not in unfinished:
            groups[owner, block.device].append(block)
    found = [
        Kept(_common_name(walk, names, blocks), device, sum(block.size_bytes for block in blocks))
        for (_, device), blocks in groups.items()
    ]
    return tuple(sorted(found, key=lambda one: -one.size_bytes)[:_MOST_NAMES])


def _common_name(walk: Walk, names: Names, blocks: list[Storage]) -> str:
    """Return the longest name that all blocks have in common, such as ``model.encoder``."""
    ways = [_way(walk, holder_of(block)) for block in blocks]
    common = ways[0]
    for way in ways[1:]:
        length = next((i for i, (a, b) in enumerate(zip(common, way, strict=False)) if a != b), None)
        common = common[: min(len(common), len(way)) if length is None else length]
    return names.of(common[-1])[0] if common else names.root(holder_of(blocks[0])).owner


def _way(walk: Walk, node: int) -> list[int]:
    """Return the identities from the root to an object."""
    way = [node]
    while node >= 0:
        node = walk.first[node]
        way.append(node)
    return way[::-1]
