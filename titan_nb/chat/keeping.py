"""Where a chat memory is kept, and what that takes."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from titan_nb.chat.location import described, move, open_store
from titan_nb.chat.records import Compacted, MemoryStats

if TYPE_CHECKING:
    import os

    from titan_nb.chat.recover import Recovered
    from titan_nb.chat.store import Store

__all__ = ["Kept"]

Self = TypeVar("Self", bound="Kept")


class Kept:
    """What a memory takes, and how it is looked after; the items themselves are `ChatMemory`'s.

    Args:
        location: See `ChatMemory`, as for the others.
        device: A GPU for copies.
        budgets: The most that may be used, by tier.
        mode: ``"w"`` or ``"r"``.
    """

    def __init__(
        self,
        location: str | os.PathLike[str] | Sequence[str] | None,
        *,
        device: str | None,
        budgets: Mapping[str, int | str] | None,
        mode: str,
    ) -> None:
        self._device, self._budgets = device, budgets
        self._writing = threading.RLock()
        self._store: Store = open_store(location, mode, device=device, budgets=budgets)
        self._location = described(location)
        try:
            for lost in self._store.recovered:
                warnings.warn(f"{self._location}: {lost}", stacklevel=3)
        except BaseException:  # where warnings are errors, nobody would get the memory to close it
            self._store.close()
            raise

    def stats(self) -> MemoryStats:
        """Return how much is stored, in all and by chat and by tier."""
        per_chat = self._store.chats()
        return MemoryStats(
            chats=len(per_chat),
            rows=sum(chat.rows for chat in per_chat.values()),
            bytes=sum(chat.bytes for chat in per_chat.values()),
            location=self._location,
            tiers=self._store.tiers(),
            per_chat=per_chat,
        )

    def chats(self) -> list[str]:
        """Return the ids of all chats, the oldest first."""
        return [*self._store.chats()]

    @property
    def recovered(self) -> tuple[Recovered, ...]:
        """What a failing disk has cost, as far as opening the folder, `verify` or `compact` found it."""
        return self._store.recovered

    def verify(self) -> tuple[Recovered, ...]:
        """Check all that is kept in a folder against its checksums.

        Items whose rows are damaged are taken out, their texts are kept in the folder's ``lost.jsonl``, and
        each is reported; a memory that only reads is told of them.

        Raises:
            ChatError: If the database itself is damaged.
        """
        with self._writing:
            return self._store.verify()

    def compact(self) -> Compacted:
        """Give back the room of what was forgotten or replaced; in a folder, all is verified first.

        Raises:
            ResourceError: If the disk is too full to write the smaller files.
        """
        with self._writing:
            return self._store.compact()

    def create_index(self) -> None:
        """Build what ``mode="fast"`` needs on servers; elsewhere it is made by the searches themselves.

        Raises:
            ChatError: If a server cannot do it.
        """
        with self._writing:
            self._store.create_index()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the memory into the folder ``path``, and keep it there from now on.

        From then on each `add` is durable when it returns. The folder must not be there yet, or be empty;
        nobody sees it half written.

        Raises:
            ChatError: If something is there.
            ResourceError: If the disk is too full; the memory then stays where it is.
        """
        with self._writing:
            before, was_here = self._store, self._location == described(None)
            self._store = move(before, path, device=self._device, budgets=self._budgets)
            self._location = described(path)
            if not was_here:
                before.close()
            # What was in this process only goes with the last search or iterator that still reads it.

    def close(self) -> None:
        """Let go of files, locks and memory; nothing else may be called afterwards."""
        with self._writing:
            self._store.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return sum(chat.rows for chat in self._store.chats().values())

    def __bool__(self) -> bool:
        return True

    def __contains__(self, chat_id: object) -> bool:
        return chat_id in self._store.chats()

    def __repr__(self) -> str:
        per_chat = self._store.chats()
        rows = sum(chat.rows for chat in per_chat.values())
        if not rows:
            return f"<ChatMemory: empty, in {self._location}>"
        chats = f"{len(per_chat)} chat" + "s" * (len(per_chat) != 1)
        return f"<ChatMemory: {rows} item{'s' * (rows != 1)} in {chats}, in {self._location}>"
