"""The frozen data that the chat memory answers with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["ChatStats", "Compacted", "Hit", "Hits", "Item", "MemoryStats"]


class Hit(NamedTuple):
    """One item found by a search.

    Attributes:
        id: Number of the item, unique over the whole memory.
        chat_id: The chat it was stored under.
        score: Cosine of the angle between the item and the query, from -1 to 1 up to the rounding of float32
            (1e-7); times the item's weight where scores fade with age.
        text: Its text, or None when it was stored without one.
        metadata: Its metadata, or None when it was stored without; a copy that may be changed.
        time: When it was stored, in UTC.
    """

    id: int
    chat_id: str
    score: float
    text: str | None
    metadata: dict[str, Any] | None
    time: datetime


class Hits(list[Hit]):
    """The items found for one query, best first, equal scores by id.

    Args:
        hits: The items.
        certified: Whether they are proved to be exactly what brute force in float64 over all rows would find.
        rescored_rows: How many rows were scored in float64 for that.
    """

    def __init__(self, hits: Iterable[Hit] = (), *, certified: bool = True, rescored_rows: int = 0) -> None:
        super().__init__(hits)
        self.certified = certified
        self.rescored_rows = rescored_rows

    def to_frame(self) -> pd.DataFrame:
        """Return the hits as a pandas DataFrame with the columns score, text, time, chat, id and metadata."""
        import pandas as pd

        columns = ("score", "text", "time", "chat", "id", "metadata")
        rows = [(hit.score, hit.text, hit.time, hit.chat_id, hit.id, hit.metadata) for hit in self]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=list(columns))
        return frame


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the memory.

    Attributes:
        id: Its number, unique over the whole memory.
        chat_id: The chat it is stored under.
        text: Its text, or None when it was stored without one.
        metadata: Its metadata, or None; a copy that may be changed.
        time: When it was stored, in UTC.
        embedding: Its row of length one, float32, shape (d,); None where it was not asked for.
    """

    id: int
    chat_id: str
    text: str | None
    metadata: dict[str, Any] | None
    time: datetime
    embedding: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class ChatStats:
    """What one chat holds.

    Attributes:
        rows: Number of items.
        bytes: What its rows take, in memory or on disk, with the room kept for rows to come and for those
            that were dropped; texts and metadata are not in it.
        dimension: Numbers per row.
        last_added: When items were last added, in UTC.
        encoder: What made its rows, or None where the user brought them.
    """

    rows: int
    bytes: int
    dimension: int
    last_added: datetime
    encoder: str | None = None


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """What the whole memory holds.

    Attributes:
        chats: Number of chats.
        rows: Number of items.
        bytes: What all rows take; see `ChatStats`.
        location: Where it is kept: ``memory``, a folder, or a server's address without its password.
        tiers: Bytes by tier: ``gpu`` (copies there), ``ram`` (rows and codes), ``disk`` (files of rows).
        per_chat: The same by chat id, the oldest chat first.
    """

    chats: int
    rows: int
    bytes: int
    location: str
    tiers: Mapping[str, int]
    per_chat: Mapping[str, ChatStats]


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction gave back.

    Attributes:
        before_bytes: What the memory took before, in RAM or on disk.
        after_bytes: What it takes now.
        dropped_rows: How many rows that were forgotten or replaced are really gone now.
    """

    before_bytes: int
    after_bytes: int
    dropped_rows: int
