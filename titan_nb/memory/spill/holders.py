"""Whether every reference to a tensor is one that Python's garbage collector can show.

A thread inside ``x.sum()`` holds ``x`` only on its own stack, and torch computes on it without raising any
count of its own. Such a reference is in the reference count and nowhere else, so the difference finds it. It
also finds what C code, NumPy arrays of objects, and local variables of other threads hold.
"""

from __future__ import annotations

import gc
import inspect
import sys
from collections.abc import Container, Sequence
from types import FrameType

__all__ = ["held_out_of_sight", "instances"]

_BATCH = 10_000


def held_out_of_sight(things: Sequence[object]) -> list[bool]:
    """Say for each object whether something holds it that is neither a container nor a local of this thread.

    It looks at every object of the process once, which takes about a third of a second for 170,000 of them.
    """
    # A known object beside them, so that the references of the counting itself cancel out.
    looked_at = [*things, []]
    frames = _callers(sys._getframe())
    for frame in frames:
        frame.f_locals  # noqa: B018 - up to Python 3.12 this makes a dict, which must be there to be counted
    seen = {id(thing): 0 for thing in looked_at}
    objects = gc.get_objects()
    for start in range(0, len(objects), _BATCH):
        for key in filter(seen.__contains__, map(id, gc.get_referents(*objects[start : start + _BATCH]))):
            seen[key] += 1
    del objects
    for frame in frames:
        for key in filter(seen.__contains__, _identities(frame)):
            seen[key] += 1
    excess = [
        count - seen[key]
        for count, key in zip(map(sys.getrefcount, looked_at), map(id, looked_at), strict=True)
    ]
    for frame in frames:
        _forget(frame, seen)
    own = excess.pop()
    return [one > own for one in excess]


def instances(kind: type) -> bool:
    """Say whether there is an object of this class in the process."""
    return any(issubclass(one, kind) for one in set(map(type, gc.get_objects())))


def _forget(frame: FrameType, identities: Container[int]) -> None:
    """Take the objects out of the dict that reading the locals made, which would hold them until the end."""
    if sys.version_info < (3, 13) and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
        names = frame.f_locals
        for name in [name for name, value in names.items() if id(value) in identities]:
            del names[name]


def _callers(frame: FrameType) -> list[FrameType]:
    """Return the frames around ``frame``, and not itself: with its own variables it would be a cycle."""
    found = []
    while frame.f_back is not None:
        frame = frame.f_back
        found.append(frame)
    return found


def _identities(frame: FrameType) -> list[int]:
    """Return the identity of each value that the frame itself holds in a local variable."""
    code = frame.f_code
    if not code.co_flags & inspect.CO_OPTIMIZED:
        return []  # its variables are in a dict, which the collector shows
    in_cells = {*code.co_cellvars, *code.co_freevars}
    return [id(value) for name, value in frame.f_locals.items() if name not in in_cells]
