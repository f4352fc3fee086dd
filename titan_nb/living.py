"""A set that keeps nothing alive, and runs no code when a member dies."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

__all__ = ["Living"]

T = TypeVar("T")


class Living(Generic[T]):
    """The members of a set that are still alive.

    `weakref.WeakSet` has a callback in Python for the death of each member. An interrupt that meets it is
    printed as an exception that nobody could catch; this set looks for its dead when it is asked.
    """

    def __init__(self) -> None:
        self._members: dict[int, weakref.ref[T]] = {}

    def add(self, member: T) -> None:
        """Add a member."""
        self._members[id(member)] = weakref.ref(member)

    def discard(self, member: T) -> None:
        """Remove a member if it is one."""
        if member in self:
            del self._members[id(member)]

    def clear(self) -> None:
        """Remove all members."""
        self._members.clear()

    def __contains__(self, member: object) -> bool:
        reference = self._members.get(id(member))
        return reference is not None and reference() is member

    def __iter__(self) -> Iterator[T]:
        for key, reference in tuple(self._members.items()):
            member = reference()
            if member is None:
                self._members.pop(key, None)
            else:
                yield member

    def __len__(self) -> int:
        return sum(1 for _ in self)
