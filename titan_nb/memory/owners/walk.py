"""From named roots to blocks of memory, in a given time, and the way to each of them."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from titan_nb.memory.owners.expand import Expander, Label
from titan_nb.memory.owners.roots import Root
from titan_nb.memory.owners.storages import LEAST_BUFFER_BYTES, Storages, quiet

__all__ = ["Walk"]

_TURN = 256
"""How many objects of one root are looked at before the next root has its turn, and the clock is read."""
_CHUNK = 4096
"""How many elements of a large container are taken at a time."""
_PROBE_LEVELS = 4
_PROBE_ELEMENTS = 32
_SECONDS_PER_BLOCK = 25e-6
"""What it takes to find out later who shares a block and what it is called."""


class _Rest:
    """What is left of a large container."""

    __slots__ = ("elements", "parent")

    def __init__(self, parent: int, elements: Iterator[Any]) -> None:
        self.parent = parent
        self.elements = elements


class Walk:
    """One search.

    Nothing of the user's is called, and after `close` nothing is kept. Containers without anything in them
    that could hold memory are passed at the speed of C, thousands of elements at a time.

    Attributes:
        roots: What it began with; root ``i`` has the identity ``-1 - i``.
        objects: Each object that was looked at, by its identity.
        first: The identity of the object through which each one was reached first.
        more: Identities of further objects that refer to it.
        labels: By identity of an object, then of a child: how the child is called, where it is known already.
        storages: The blocks found.
        looked_at: How many objects were looked at, those that were passed by the thousand among them.
        unfinished: The roots that were not looked through to the end.

    Args:
        beyond: Identities of objects that are not entered.
    """

    def __init__(self, beyond: Iterable[int] = ()) -> None:
        self.roots: list[Root] = []
        self.objects: dict[int, Any] = {}
        self.first: dict[int, int] = dict.fromkeys(beyond, 0)
        self.more: dict[int, list[int]] = {}
        self.labels: dict[int, dict[int, Label]] = {}
        self.storages = Storages()
        self.unfinished: list[Root] = []
        self.looked_at = 0
        self._expander = Expander(self.storages, self.labels)
        self._waiting: deque[tuple[int, deque[Any]]] = deque()

    def add_root(self, root: Root) -> None:
        """Begin at one more name."""
        if self._expander.of(root.value) is None:
            return
        number = len(self.roots)
        self.roots.append(root)
        queue: deque[Any] = deque()
        self._add(-1 - number, (root.value,), queue)
        if queue:
            self._waiting.append((number, queue))

    def is_container(self, value: Any) -> bool:
        """Return whether an object holds nothing but references to others."""
        return self._expander.of(value) in self._expander.containers

    def run(self, until: float) -> bool:
        """Go on until ``until`` on `time.perf_counter`; return whether the search is at its end.

        All roots advance in turn, so that a huge one does not hide the others.
        """
        waiting = self._waiting
        # A collection could last longer than the time there is, and free what the user wants to see.
        collects = gc.isenabled()
        gc.disable()
        try:
            with quiet():
                while waiting:
                    number, queue = waiting.popleft()
                    self._turn(queue)
                    if queue:
                        waiting.append((number, queue))
                    if time.perf_counter() + len(self.storages) * _SECONDS_PER_BLOCK >= until:
                        break
        finally:
            if collects:
                gc.enable()
        self.unfinished = [self.roots[number] for number in sorted(number for number, _ in waiting)]
        return not waiting

    def parents(self, node: int) -> Sequence[int]:
        """Return the identities of all that were seen to refer to an object; negative for a root."""
        more = self.more.get(node)
        return (self.first[node],) if more is None else (self.first[node], *more)

    def close(self) -> None:
        """Let go of everything: a traceback that keeps this frame must not keep the user's objects."""
        for kept in (self.roots, self.unfinished, self.objects, self.first, self.more, self.labels):
            kept.clear()
        self._waiting.clear()
        self.storages.clear()
        self._expander.clear()

    def _turn(self, queue: deque[Any]) -> None:
        turn = min(_TURN, len(queue))
        self.looked_at += turn
        for _ in range(turn):
            one = queue.popleft()
            if type(one) is _Rest:
                self._take(one, queue)
                return
            expand = self._expander.of(one)
            if expand is None:
                continue
            try:
                children = expand(one)
            except Exception:
                self.storages.refuse(one)
                continue
            if type(children) is list and len(children) <= _CHUNK:
                if len(children) < _PROBE_ELEMENTS or not self._is_barren(children, id(one)):
                    self._add(id(one), children, queue)
            else:
                queue.append(_Rest(id(one), iter(children)))

    def _take(self, rest: _Rest, queue: deque[Any]) -> None:
        try:
            chunk = list(islice(rest.elements, _CHUNK))
        except RuntimeError:  # a dictionary that another thread changes
            self.storages.refuse(self.objects[rest.parent])
            return
        if not chunk:
            return
        queue.append(rest)
        if not self._is_barren(chunk, rest.parent):
            self._add(rest.parent, chunk, queue)

    def _add(self, parent: int, children: Iterable[Any], queue: deque[Any]) -> None:
        first, more, objects, known = self.first, self.more, self.objects, self._expander.known
        text, plain_dict = self._expander.text, self._expander.plain_dict
        for child in children:
            try:
                expand = known[id(type(child))]
            except KeyError:
                expand = self._expander.of(child)
            if expand is None or (expand is text and len(child) < LEAST_BUFFER_BYTES):
                continue
            if expand is plain_dict and not len(child):  # modules have a dozen of them each
                continue
            key = id(child)
            if key in first:
                more.setdefault(key, []).append(parent)
            else:
                first[key] = parent
                objects[key] = child
                queue.append(child)

    def _is_barren(self, level: list[Any], parent: int) -> bool:
        """Return whether nothing within a few steps of some elements could hold memory that counts."""
        known, text, containers = self._expander.known, self._expander.text, self._expander.containers
        plain = {None, text, *containers}
        self.looked_at += len(level)
        for _ in range(_PROBE_LEVELS):
            classes = set(map(id, map(type, level)))
            if not classes <= known.keys():
                for one in level:
                    self._expander.of(one)
            kinds = {known[cls] for cls in classes}
            if not kinds <= plain:
                return False
            if text in kinds:
                texts = level if kinds == {text} else [one for one in level if known[id(type(one))] is text]
                if max(map(len, texts)) >= LEAST_BUFFER_BYTES:
                    return False
            if kinds <= {None, text}:
                return True
            level = [one for one in level if known[id(type(one))] in containers and id(one) != parent]
            if len(level) > 8 * _CHUNK:
                return False
            level = gc.get_referents(*level)
        return False
