"""Which server keeps which chat."""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Sequence

__all__ = ["Ring"]

# With v points per server its share of the chats spreads by about 1 / sqrt(v): 6 % here.
_POINTS_PER_SERVER = 256


class Ring:
    """Consistent hashing of chat ids: an added server takes its share of the chats, and no other moves.

    Each server has many points on a circle of 2^64 places; a chat belongs to the first point at or after its
    own (Karger et al. 1997, "Consistent hashing and random trees").

    Args:
        names: What the servers are called, for ever; their order has no say.
    """

    def __init__(self, names: Sequence[str]) -> None:
        points = sorted((_place(f"{name}/{n}"), name) for name in names for n in range(_POINTS_PER_SERVER))
        self._places = [place for place, _ in points]
        self._names = [name for _, name in points]

    def owner(self, chat_id: str) -> str:
        """Return the name of the server that keeps this chat."""
        at = bisect.bisect_left(self._places, _place(chat_id))
        return self._names[at % len(self._names)]


def _place(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
