"""One search for memory, from the roots to the answer."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.owners.answer import NO_NAME, answer
from titan_nb.memory.owners.referrers import holders_of, unreached
from titan_nb.memory.owners.report import Owners
from titan_nb.memory.owners.roots import Root
from titan_nb.memory.owners.slots import inherits
from titan_nb.memory.owners.storages import quiet
from titan_nb.memory.owners.walk import Walk

__all__ = ["look", "walk_in_order"]

# The rest of the time is for names; with a GPU, also for the way back from what the walk has not reached.
_WALK_SHARE = 0.95
_WALK_SHARE_WITH_GPU = 0.65
_LEAST_UNEXPLAINED_BYTES = 1 << 20


def look(roots: Iterable[Root], beyond: Iterable[int], seconds: float) -> Owners:
    """Search for what ``roots`` hold and return the answer.

    Args:
        roots: The names.
        beyond: Identities of objects that are not entered.
        seconds: Longest time.
    """
    started = time.perf_counter()
    walk = Walk(beyond)
    try:
        notes = []
        share = _WALK_SHARE if accelerator() is None else _WALK_SHARE_WITH_GPU
        if not walk_in_order(walk, roots, started, seconds * share):
            notes.append(_unfinished(walk, seconds))
        if _unexplained_bytes(walk) >= _LEAST_UNEXPLAINED_BYTES:
            notes += _reach_back(walk, started + seconds * 0.85, started + seconds)
        if walk.storages.unknown:
            notes.append("unknown: " + ", ".join(f"{n} {name}" for name, n in walk.storages.unknown.items()))
        return answer(walk, "; ".join(notes), started + seconds)
    finally:
        walk.close()


def walk_in_order(walk: Walk, roots: Iterable[Root], started: float, seconds: float) -> bool:
    """Walk from ``roots``, those first whose names say most; return whether it came to its end.

    A module names its parameters better than a list or an optimizer does, and a variable better than ``Out``.
    Tensors and arrays come before containers, which may be huge.
    """
    torch = walk.storages.torch
    module: Any = getattr(getattr(torch, "nn", None), "Module", None)
    optimizer: Any = getattr(getattr(torch, "optim", None), "Optimizer", None)
    turns: list[list[Root]] = [[], [], [], []]
    for root in roots:
        cls = type(root.value)
        if root.kind != "variable" or (optimizer is not None and inherits(cls, optimizer)):
            turn = 3
        elif module is not None and inherits(cls, module):
            turn = 0
        else:
            turn = 2 if walk.is_container(root.value) else 1
        turns[turn].append(root)
    done = True
    for turn, share in enumerate((0.3, 0.4, 0.7, 1.0)):
        for root in turns[turn]:
            walk.add_root(root)
        done = walk.run(started + seconds * share)
    return done


def _unexplained_bytes(walk: Walk) -> int:
    """Return what the allocators of all GPUs have handed out beyond what the walk has found."""
    gpu = accelerator()
    if gpu is None:
        return 0
    found = sum(block.size_bytes for block in walk.storages if block.device in gpu.keys().values())
    try:
        return sum(map(gpu.allocated_bytes, gpu.keys())) - found
    except Exception:
        return 0


def _unfinished(walk: Walk, seconds: float) -> str:
    names = list(dict.fromkeys(root.name for root in walk.unfinished))
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"stopped after {seconds * 1000:.0f} ms with {walk.looked_at:,} objects looked at: "
        f"not to the end of {shown}"
    )


def _reach_back(walk: Walk, until: float, latest: float) -> list[str]:
    """Add live tensors that the walk did not come to, by the modules and classes that hold them."""
    now = time.perf_counter()
    if now >= until:
        return ["what no variable leads to: not looked at"]
    with quiet():
        targets, complete = unreached(walk.storages, (now + until) / 2)
    try:
        if targets:
            for root in holders_of(targets, until):
                walk.add_root(root)
            complete = walk.run(until) and complete
            for tensor in targets:
                if id(tensor) not in walk.first:
                    walk.add_root(Root(f"{NO_NAME}: reference cycle or C code", tensor, "no name"))
            complete = walk.run(latest) and complete
    finally:
        targets.clear()
    return [] if complete else ["what no variable leads to: not all looked at"]
