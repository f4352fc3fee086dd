"""What a user would write to get at an object that a search has found."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

from titan_nb.memory.owners.expand import Label
from titan_nb.memory.owners.roots import Kind, Root
from titan_nb.memory.owners.slots import (
    attributes_of,
    class_name,
    inherits,
    is_one_of,
    members_of,
    package_of,
)
from titan_nb.memory.owners.walk import Walk

__all__ = ["Names"]

_PLAIN = Label("", "")
_MOST_STEPS = 40
"""Names of more steps than these, as in a linked list of a thousand, are cut in the middle."""
_MANY_KEYS = 20_000
_SECONDS_PER_KEY = 0.6e-6
"""What it takes to note where one of many elements stands; without the time for it the place is left open."""

_LONGEST_KEY = 40

_Role = Literal["attributes", "module", "members", "optimizer", "hidden"]
"""What a dictionary is for; *hidden* is any object whose parts have no names of their own."""


class Names:
    """The names of what one search has found.

    Args:
        walk: The search.
        until: When, on `time.perf_counter`, no place is looked for in large containers any more.
    """

    def __init__(self, walk: Walk, until: float = math.inf) -> None:
        self._until = until
        self._walk = walk
        self._names: dict[int, tuple[str, Kind]] = {}
        self._roots: dict[int, Root] = {}
        self._keys: dict[int, dict[int, Any]] = {}
        self._roles: dict[int, _Role] = {}
        self._asked: set[int] = set()
        torch = walk.storages.torch
        self._module: Any = getattr(getattr(torch, "nn", None), "Module", None)
        self._parameter: Any = getattr(getattr(torch, "nn", None), "Parameter", None)
        self._optimizer: Any = getattr(getattr(torch, "optim", None), "Optimizer", None)

    def of(self, node: int) -> tuple[str, Kind]:
        """Return the name of an object, and how memory is held through it."""
        steps = []
        while node >= 0 and node not in self._names:
            steps.append(node)
            node = self._walk.first[node]
        if node < 0:
            root = self._walk.roots[-1 - node]
            found: tuple[str, Kind] = root.name, root.kind
        else:
            root, found = self._roots[node], self._names[node]
        if len(steps) > _MOST_STEPS:
            found, steps = (f"{found[0]} ...", found[1]), steps[: _MOST_STEPS // 2]
        for step in reversed(steps):
            found = self._names[step] = self._step(found, step)
            self._roots[step] = root
        return found

    def root(self, node: int) -> Root:
        """Return the root through which an object was reached first."""
        while node >= 0 and node not in self._roots:
            node = self._walk.first[node]
        return self._roots[node] if node >= 0 else self._walk.roots[-1 - node]

    def _step(self, parent: tuple[str, Kind], node: int) -> tuple[str, Kind]:
        name, kind = parent
        above = self._walk.first[node]
        if above >= 0:
            before, after, changed = self._label(above, node)
            # "closure of f: x" has only one such word in front, however deep it goes from there.
            name = f"{'' if name.startswith(before) else before}{name}{after}"
            if changed is not None and kind in ("variable", "parameter"):
                kind = changed
        if kind == "variable" and self._parameter is not None:
            is_parameter = inherits(type(self._walk.objects[node]), self._parameter)
            kind = "parameter" if is_parameter else kind
        return name, kind

    def _label(self, parent: int, child: int) -> Label:
        """Return how an object is called after the one through which it was reached."""
        known = self._walk.labels.get(parent, {}).get(child)
        if known is not None:
            return known
        thing = self._walk.objects[parent]
        cls = type(thing)
        role = self._roles.get(parent)
        if role == "hidden" or package_of(cls) == "pandas":
            self._roles[child] = "hidden"  # how a table stores its columns is not for its user to know
            return _PLAIN
        keys: dict[int, Any] = {}
        for container in (dict, list, tuple):
            if inherits(cls, container) and self._is_too_much(parent, container.__len__(thing)):
                return Label("", "[...]")
        if inherits(cls, dict):
            keys = self._keys_of(parent, dict.items, thing)
        for sequence in (list, tuple):
            if inherits(cls, sequence):
                keys = self._keys_of(parent, _numbered, sequence.__iter__(thing))
        return self._item(keys, child, role, parent) if child in keys else self._attribute(thing, child)

    def _is_too_much(self, parent: int, count: int) -> bool:
        if count < _MANY_KEYS or parent in self._keys:
            return False
        return time.perf_counter() + count * _SECONDS_PER_KEY > self._until

    def _attribute(self, thing: Any, child: int) -> Label:
        attributes = attributes_of(thing)
        role: _Role = "attributes"
        if self._module is not None and inherits(type(thing), self._module):
            role = "module"
        elif self._optimizer is not None and inherits(type(thing), self._optimizer):
            role = "optimizer"
        if child == id(attributes):
            # Between an object and what its attributes refer to there may be the dictionary, or not.
            self._roles[child] = role
            return _PLAIN
        keys = self._keys_of(id(attributes), dict.items, attributes) if attributes else {}
        if child in keys:
            return self._item(keys, child, role, id(attributes))
        name = next((name for name, value in members_of(thing).items() if id(value) == child), None)
        return _PLAIN if name is None else Label("", f".{name}")

    def _item(self, keys: dict[int, Any], child: int, role: _Role | None, parent: int) -> Label:
        key = keys[child]
        if role == "module" and type(key) is str and key in ("_parameters", "_buffers", "_modules"):
            # `model.encoder.weight`, as the module itself finds it.
            self._roles[child] = "members"
            return _PLAIN
        if role is not None and type(key) is str and key.isidentifier():
            kind: Kind | None = "optimizer state" if role == "optimizer" and key == "state" else None
            return Label("", f".{key}", kind)
        if role == "members" and type(key) is str and key.isdigit():
            return Label("", f"[{key}]")
        return Label("", f"[{self._key(key, parent)}]")

    def _keys_of(
        self, node: int, read: Callable[[Any], Iterable[tuple[Any, Any]]], thing: Any
    ) -> dict[int, Any]:
        keys = self._keys.get(node)
        if keys is None:
            keys = self._keys[node] = {id(value): key for key, value in list(read(thing))}
        return keys

    def _key(self, key: Any, parent: int) -> str:
        if is_one_of(type(key), (str, bytes, int, float, bool, type(None))):
            text = repr(key)
            return text if len(text) <= _LONGEST_KEY else f"{text[: _LONGEST_KEY - 3]}..."
        if type(key) is tuple and len(key) <= 4:
            return ", ".join(self._key(part, parent) for part in key)
        if self._walk.first.get(id(key), parent) != parent and id(key) not in self._asked:
            # A parameter, as in the state of an optimizer; its own name may need that of the dictionary.
            self._asked.add(id(key))
            try:
                return self.of(id(key))[0]
            finally:
                self._asked.discard(id(key))
        return class_name(type(key))


def _numbered(elements: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    return enumerate(elements)
