"""The frozen data that the chat memory answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ChatStats", "Hit", "MemoryStats"]


@dataclass(frozen=True, slots=True)
class Hit:
    """One row found by a search.

    Attributes:
        id: Number of the row, unique over the whole memory.
        chat_id: The chat it was stored under.
        score: Cosine of the angle between the row and the query, from -1 to 1.
        text: Its text, or None when it was stored without one.
        metadata: Its metadata, or None when it was stored without; a copy that may be changed.
    """

    id: int
    chat_id: str
    score: float
    text: str | None
    metadata: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ChatStats:
    """What one chat holds.

    Attributes:
        rows: Number of rows.
        bytes: Size of its tensor, with the room kept for rows to come; texts and metadata are not in it.
        dimension: Numbers per row.
        last_added: When rows were last added, in UTC, ISO 8601.
    """

    rows: int
    bytes: int
    dimension: int
    last_added: str


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """What the whole memory holds.

    Attributes:
        chats: Number of chats.
        rows: Number of rows.
        bytes: Size of all tensors; see `ChatStats`.
        dimension: Numbers per row, or None while the memory is empty.
        device: Where the tensors are, such as ``cpu`` or ``cuda:0``.
        per_chat: The same by chat id, the oldest chat first.
    """

    chats: int
    rows: int
    bytes: int
    dimension: int | None
    device: str
    per_chat: Mapping[str, ChatStats]
