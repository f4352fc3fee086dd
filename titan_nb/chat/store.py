"""Where a chat memory keeps its items: the one contract between its face and its stores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.records import ChatStats, Compacted
    from titan_nb.chat.recover import Recovered
    from titan_nb.chat.where import Condition

__all__ = [
    "Batch",
    "Change",
    "Fading",
    "Match",
    "Matches",
    "Mode",
    "Selection",
    "Store",
    "StoredItem",
    "refuse_mixture",
]

Mode = Literal["exact", "fast"]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows on their way into a store, checked by the face of the memory.

    Attributes:
        rows: Unit rows, float32, shape (n, d), C order, of one's own; n is at least 1.
        texts: One text or None per row.
        metadata: One JSON object as text, or None, per row.
        times: One time per row, in seconds since 1970 (UTC).
        ids: One number per row, from 0 to 2^63 - 1, all different; None lets the store number them.
        encoder: The identity of the encoder that made the rows, or None when the user brought them.
    """

    rows: np.ndarray
    texts: Sequence[str | None]
    metadata: Sequence[str | None]
    times: Sequence[float]
    ids: Sequence[int] | None = None
    encoder: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which items are meant: those for which all of this holds.

    Attributes:
        chat_id: Of this chat; None for all chats.
        ids: With one of these numbers; None for any.
        where: Whose metadata fulfil all of these.
        since: Of this time or later, in seconds since 1970 (UTC).
        until: Of an earlier time than this.
    """

    chat_id: str | None = None
    ids: tuple[int, ...] | None = None
    where: tuple[Condition, ...] = ()
    since: float | None = None
    until: float | None = None

    @property
    def plain(self) -> bool:
        """Whether it takes whole chats, without a look at their items."""
        return self.ids is None and not self.where and self.since is None and self.until is None


@dataclass(frozen=True, slots=True)
class Fading:
    """How scores fade with age: score x max(floor, 2^(-age / half-life)).

    Attributes:
        half_life_seconds: The age at which half of the score is left.
        floor: The weight that the oldest items keep, from 0 to 1.
        now: The moment ages are counted from, in seconds since 1970; later items have age 0.
    """

    half_life_seconds: float
    floor: float
    now: float


@dataclass(frozen=True, slots=True)
class Change:
    """What an update puts in place of what was there; a field that is not named in ``fields`` stays.

    Attributes:
        fields: Some of ``text``, ``metadata``, ``row``.
        text: The new text.
        metadata: The new metadata as JSON text.
        row: The new unit row, float32, shape (d,).
        encoder: What made the new row.
    """

    fields: frozenset[str]
    text: str | None = None
    metadata: str | None = None
    row: np.ndarray | None = None
    encoder: str | None = None


class StoredItem(NamedTuple):
    """One item as the store has it.

    Attributes:
        id: Its number, unique over the whole store.
        chat_id: Its chat.
        text: Its text or None.
        metadata: JSON text or None.
        time: Seconds since 1970 (UTC).
        embedding: Its unit row, float32, shape (d,), where it was asked for.
    """

    id: int
    chat_id: str
    text: str | None
    metadata: str | None
    time: float
    embedding: np.ndarray | None = None


class Match(NamedTuple):
    """One item found, with its score: the cosine in float64, times its weight where scores fade."""

    item: StoredItem
    score: float


@dataclass(frozen=True, slots=True)
class Matches:
    """What a search found.

    Attributes:
        found: One list per query, best first, equal scores by id.
        certified: Whether each list is proved to be what brute force in float64 over all rows would give.
        rescored_rows: How many rows were scored in float64, over all queries.
    """

    found: list[list[Match]]
    certified: bool
    rescored_rows: int


class Store(Protocol):
    """Keeps items; all methods may be called from any thread, and each happens as a whole or not at all."""

    @property
    def recovered(self) -> tuple[Recovered, ...]:
        """What a failing disk has cost, as far as it was found; nearly always nothing."""
        ...

    def verify(self) -> tuple[Recovered, ...]:
        """Check what is stored against its checksums, and return what was lost that nobody knew of."""
        ...

    def add(self, chat_id: str, batch: Batch) -> list[int]:
        """Store a batch and return the numbers of its rows, once it is as durable as this store can make it.

        Raises:
            ChatError: If a number is taken, or the chat has another dimension or encoder.
            ResourceError: If memory or disk is short.
        """
        ...

    def search(
        self,
        queries: np.ndarray,
        k: int,
        selection: Selection,
        *,
        mode: Mode = "exact",
        encoder: str | None = None,
        fading: Fading | None = None,
    ) -> Matches:
        """Return the k best items for each unit query, float32, shape (m, d).

        Chats of another dimension, or of another encoder than ``encoder``, are left out where no chat is
        named.

        Raises:
            ChatError: If the named chat, or every chat, is of another dimension or encoder.
        """
        ...

    def get(self, ids: Sequence[int], *, embeddings: bool = False) -> dict[int, StoredItem]:
        """Return the items with these numbers; those that are not there are left out."""
        ...

    def items(self, selection: Selection, *, embeddings: bool = False) -> Iterator[StoredItem]:
        """Yield the selected items by number, without holding them all at once."""
        ...

    def update(self, number: int, change: Change) -> None:
        """Change one item.

        Raises:
            ChatError: If there is none of this number, or the new row does not fit its chat.
        """
        ...

    def forget(self, selection: Selection) -> int:
        """Drop the selected items and return how many there were; a chat without items is gone."""
        ...

    def chats(self) -> dict[str, ChatStats]:
        """Return what each chat holds, the oldest chat first."""
        ...

    def create_index(self) -> None:
        """Prepare the fast search, where that is to be done ahead of it."""
        ...

    def tiers(self) -> Mapping[str, int]:
        """Return how many bytes are where: on ``gpu``, in ``ram``, on ``disk``."""
        ...

    def compact(self) -> Compacted:
        """Give back the room of what was dropped."""
        ...

    def close(self) -> None:
        """Let go of files, locks and connections; nothing else may be called afterwards."""
        ...


def refuse_mixture(
    chats: Mapping[str, ChatStats], chat_id: str, dimension: int, encoder: str | None, subject: str
) -> None:
    """Refuse rows or a query that do not fit what a chat holds; a chat that is not there takes any.

    Args:
        chats: What there is.
        chat_id: The chat.
        dimension: Numbers per row of what is to go there.
        encoder: The identity of the encoder that made it, None if unknown, which fits any.
        subject: What it is called in the error: ``row 0``, ``the query``.

    Raises:
        ChatError: If it does not fit.
    """
    held = chats.get(chat_id)
    if held is None:
        return
    if held.dimension != dimension:
        raise ChatError(
            f"{subject} has {dimension} numbers, and chat {chat_id!r} holds rows of {held.dimension}: "
            "use one model for a chat, or another chat_id"
        )
    if None not in (encoder, held.encoder) and encoder != held.encoder:
        raise ChatError(
            f"{subject} comes from the encoder {encoder!r}, and chat {chat_id!r} holds rows of "
            f"{held.encoder!r}: scores between two encoders mean nothing; use one for a chat, or another "
            "chat_id"
        )
