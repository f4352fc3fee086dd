"""Which groups of names reach which blocks of memory."""

from __future__ import annotations

from collections.abc import Iterable

from titan_nb.memory.owners.walk import Walk

__all__ = ["groups_by_node"]


def groups_by_node(walk: Walk, holders: Iterable[int]) -> tuple[list[str], dict[int, int]]:
    """Return the names of the groups, and for each object that leads to a holder its groups as bits.

    A block whose holders have one bit between them is freed with that group; one with two is shared.

    Args:
        walk: The search.
        holders: Identities of the objects that hold blocks.
    """
    fertile = _leading_to(walk, holders)
    owners: dict[str, int] = {}
    bits: dict[int, int] = {}
    for node in sorted(one for one in fertile if one < 0)[::-1]:
        owner = walk.roots[-1 - node].owner
        bits[node] = 1 << owners.setdefault(owner, len(owners))
    # In the order in which they were found, most parents come before their children; cycles need more rounds.
    order = [node for node in walk.objects if node in fertile]
    changed = True
    while changed:
        changed = False
        for node in order:
            before = found = bits.get(node, 0)
            found |= bits.get(walk.first[node], 0)
            for parent in walk.more.get(node, ()):
                found |= bits.get(parent, 0)
            if found != before:
                bits[node] = found
                changed = True
    return list(owners), bits


def _leading_to(walk: Walk, holders: Iterable[int]) -> set[int]:
    """Return all objects and roots from which a holder was reached."""
    fertile = set(holders)
    waiting = list(fertile)
    while waiting:
        for parent in walk.parents(waiting.pop()):
            # An object that is not entered (0) leads nowhere.
            if parent not in fertile and parent:
                fertile.add(parent)
                if parent > 0:
                    waiting.append(parent)
    return fertile
