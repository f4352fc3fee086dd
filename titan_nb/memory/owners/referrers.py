"""Live tensors that no name led to, and the modules and classes that hold them."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from types import FrameType, ModuleType
from typing import Any

from titan_nb.memory.owners.roots import MACHINERY, Root
from titan_nb.memory.owners.slots import class_name, inherits, is_one_of, slots_of
from titan_nb.memory.owners.storages import Storages

__all__ = ["holders_of", "unreached"]

_LEVELS = 8
_MOST_TARGETS = 1000
_LEAST_BYTES = 1 << 16
_BATCH = 1 << 14


def unreached(storages: Storages, until: float) -> tuple[list[Any], bool]:
    """Return live tensors whose memory has not been found, and whether all objects were looked at.

    Objects that Python's garbage collector does not know, as after ``gc.freeze()``, are not seen.
    """
    if storages.tensor is None:
        return [], True
    found: list[Any] = []
    known: set[int] = set()
    tensors: set[int] = set()
    objects = gc.get_objects()
    for start in range(0, len(objects), _BATCH):
        if time.perf_counter() >= until or len(found) >= _MOST_TARGETS:
            return found, False
        batch = objects[start : start + _BATCH]
        classes = set(map(id, map(type, batch)))
        if not classes <= known:
            known |= classes
            tensors |= {id(type(one)) for one in batch if inherits(type(one), storages.tensor)}
        if not classes.isdisjoint(tensors):
            found += [one for one in batch if id(type(one)) in tensors and storages.is_new(one, _LEAST_BYTES)]
    return found, True


def holders_of(targets: list[Any], until: float) -> Iterator[Root]:
    """Yield the variables of modules and the attributes of classes through which ``targets`` are held.

    Goes from the targets back to what refers to them, a level at a time, each in one pass over all objects.
    """
    modules = {
        id(vars(module)): name
        for name, module in list(sys.modules.items())
        if type(module) is ModuleType and name.partition(".")[0] not in MACHINERY
    }
    level = list(targets)
    ours = {id(targets), id(level)}
    seen = set(map(id, level))
    for _ in range(_LEVELS):
        if not level or time.perf_counter() >= until:
            return
        referrers = gc.get_referrers(*level)
        ours.add(id(referrers))
        following: list[Any] = []
        ours.add(id(following))
        for one in referrers:
            if id(one) in ours or id(one) in seen or is_one_of(type(one), (FrameType, ModuleType)):
                continue
            seen.add(id(one))
            name = modules.get(id(one))
            if name is not None:
                yield from _variables(name, dict.items(one), seen)
            elif inherits(type(one), type):
                yield from _variables(class_name(one), slots_of(one).items(), seen)
            elif len(following) < _MOST_TARGETS:
                following.append(one)
        level = following


def _variables(owner: str, items: Any, wanted: set[int]) -> Iterator[Root]:
    for name, value in list(items):
        if id(value) in wanted and type(name) is str and type(value) is not ModuleType:
            yield Root(f"{owner}.{name}", value)
