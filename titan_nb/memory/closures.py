"""Functions that only finished frames keep, and what they hold.

Since Python 3.11 a frame keeps its function for as long as it lives, and with it the function's closure and
defaults. No `frame.clear` reaches those, so that a tensor of an enclosing function outlives its frames.
"""

from __future__ import annotations

import gc
import sys
import weakref
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from types import CellType, FrameType, FunctionType

__all__ = ["empty_closures"]


def empty_closures(frames: Iterable[FrameType]) -> int:
    """Let go of what functions hold that nobody can call any more; return how many such functions there are.

    A function, or a variable that it shares with others, is emptied only if every reference to it comes from
    these frames or from other such functions.

    Args:
        frames: Frames that have finished and whose variables are gone.
    """
    # Before 3.11 `frames` may hold some that run, whose functions are in use.
    return _empty(list(frames)) if sys.version_info >= (3, 11) else 0


def _empty(frames: list[FrameType]) -> int:
    nodes = _reachable([one for one in gc.get_referents(*frames) if type(one) is FunctionType])
    kept = _kept_by_others(nodes, frames)
    emptied = 0
    for node in [one for key, one in nodes.items() if key not in kept]:
        if type(node) is FunctionType:
            node.__defaults__ = node.__kwdefaults__ = None
            emptied += 1
        elif type(node) is dict:
            node.clear()
        elif type(node) is CellType and gc.get_referents(node):  # an empty one has nothing to delete
            del node.cell_contents
    return emptied


def _reachable(waiting: list[object]) -> dict[int, object]:
    """Return the functions ``waiting``, and those that they can reach, with their cells and attributes."""
    nodes: dict[int, object] = {}
    while waiting:
        node = waiting.pop()
        if id(node) in nodes:
            continue
        nodes[id(node)] = node
        if type(node) is FunctionType:
            waiting += [node.__dict__, node.__closure__ or ()]
        elif type(node) is tuple:
            waiting += node
        else:  # A function's cell may hold the function itself, its attributes the one that it wraps.
            waiting += [one for one in gc.get_referents(node) if type(one) is FunctionType]
    return nodes


def _kept_by_others(nodes: dict[int, object], frames: list[FrameType]) -> set[int]:
    """Return the keys of the ``nodes`` that somebody besides ``frames`` can reach.

    This is how the collector finds garbage: what has more references than its own kind explains is in use,
    and so is all that can be reached from there.
    """
    explained = Counter(
        id(one) for holder in chain(frames, nodes.values()) for one in gc.get_referents(holder)
    )
    # What the dict and the counting add themselves depends on the version of Python.
    ours = _reference_counts({0: object()})[0]
    in_use = [
        nodes[key]
        for key, count in _reference_counts(nodes).items()
        if count > ours + explained[key] or _has_weak_references(nodes[key])
    ]
    kept: set[int] = set()
    while in_use:
        node = in_use.pop()
        if id(node) not in kept:
            kept.add(id(node))
            in_use += [one for one in gc.get_referents(node) if id(one) in nodes]
    return kept


def _reference_counts(nodes: dict[int, object]) -> dict[int, int]:
    return {key: sys.getrefcount(node) for key, node in nodes.items()}


def _has_weak_references(node: object) -> bool:
    return type(node) is FunctionType and weakref.getweakrefcount(node) > 0
