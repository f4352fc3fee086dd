"""The chat memory, as its users see it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from titan_nb.chat.annotations import (
    read_chat_id,
    read_fields,
    read_ids,
    read_k,
    read_metadata,
    read_mode,
    read_texts,
)
from titan_nb.chat.asynchronous import Asynchronous
from titan_nb.chat.encoder import Encoder, as_encoder, encode_texts, identity_of
from titan_nb.chat.items import hits_of, item_of
from titan_nb.chat.keeping import Kept
from titan_nb.chat.location import check_folder
from titan_nb.chat.moments import read_moment, read_times
from titan_nb.chat.normalise import unit_query, unit_rows
from titan_nb.chat.records import Hits, Item
from titan_nb.chat.store import Batch, Change, Matches, Selection
from titan_nb.chat.where import read_where
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import os

    import numpy as np

    from titan_nb.chat.policy import Admission, Policy
    from titan_nb.chat.store import Mode

__all__ = ["ChatMemory"]

_UNSET: Any = object()


class ChatMemory(Kept, Asynchronous):
    """Embeddings by chat, with their texts, metadata and times, searched exactly.

    Rows are kept as unit vectors in float32. All rows of a chat have one dimension and come from one encoder;
    two chats may differ. Every method may be called from any thread.

    Args:
        location: None keeps everything in this process; the path of a folder keeps it there, each `add`
            durable when it returns; ``"postgresql://..."``, or a list of such addresses, in PostgreSQL.
        encoder: Turns texts into embeddings: a function from n texts to an (n, d) table, an object with such
            a method ``encode``, or ``"wordllama"`` or ``"minilm"``. By default WordLlama, where it is
            installed. It can also be set later, as ``memory.encoder``.
        device: A GPU, such as ``"cuda:0"``, that keeps a copy of the chats in use; by default none.
        budgets: The most that may be used by tier: ``{"gpu": "2GiB", "ram": "4GiB", "disk": "50GiB"}``. What
            was not used for longest moves down a tier; nothing is lost.
        policy: What is not worth keeping, and how scores fade; by default everything is kept, and nothing
            fades.
        mode: ``"w"``, or ``"r"`` to read a folder that another process may be writing.

    Raises:
        ChatError: If the location cannot be opened.
        SettingsError: If the device, a budget or the policy cannot be used.
    """

    def __init__(
        self,
        location: str | os.PathLike[str] | Sequence[str] | None = None,
        *,
        encoder: Encoder | str | None = None,
        device: str | None = None,
        budgets: Mapping[str, int | str] | None = None,
        policy: Policy | None = None,
        mode: str = "w",
    ) -> None:
        self.encoder: Any = encoder
        self.policy = policy
        self._admission = None if policy is None else _admission(policy)
        super().__init__(location, device=device, budgets=budgets, mode=mode)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> ChatMemory:
        """Open a folder that a memory was saved in; ``options`` are those of `ChatMemory`.

        Raises:
            ChatError: If there is no memory, or another process is writing it.
        """
        check_folder(path, missing=False)
        return cls(path, **options)

    def add(
        self,
        chat_id: str,
        embeddings: Any,
        texts: Any = None,
        metadata: Any = None,
        *,
        ids: Any = None,
        times: Any = None,
    ) -> Sequence[int | None]:
        """Store items under ``chat_id``: all of them or, after an exception, none.

        Args:
            chat_id: The chat; it is made when it is new.
            embeddings: Tensor, array or list of lists of floating-point numbers, shape (n, d); or a list of
                n texts, which the encoder turns into such. Copied: neither modified nor kept.
            texts: One text or None per row. By default the texts that were encoded, if they were.
            metadata: One dict or None per row, or one dict for all. Kept as JSON, which turns tuples into
                lists and keys into text.
            ids: One number per row, from 0 to 2^63 - 1; by default the next free ones. No id that was given
                by default is ever given twice.
            times: One time per row, or one for all, as datetime or in seconds since 1970; by default now.

        Returns:
            One id per row, in order. Under a policy, a duplicate has the id of the item that is there
            already, and a row that was not worth keeping has None.

        Raises:
            ChatError: If anything cannot be stored; it names the row.
            ResourceError: If memory or disk is short.
        """
        name = read_chat_id(chat_id)
        rows, encoder, texts = self._read_rows(embeddings, texts)
        count = len(rows)
        batch = Batch(
            rows,
            read_texts(texts, count),
            read_metadata(metadata, count),
            read_times(times, count),
            read_ids(ids, count),
            encoder,
        )
        if count == 0:
            return []
        with self._writing:
            if self._admission is None:
                return self._store.add(name, batch)
            return self._admission.add(self._store, name, batch)

    def search(
        self,
        query: Any,
        k: int = 5,
        chat_id: str | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        since: Any = None,
        until: Any = None,
        mode: str = "exact",
    ) -> Any:
        """Return the k items most like ``query`` by cosine, best first, equal scores by id.

        Args:
            query: One row of d numbers, as tensor, array or list; or a text; or m of them: a table (m, d)
                or a list of texts.
            k: How many; fewer come back when fewer are stored.
            chat_id: Look in this chat only; one that does not exist has no items. By default look in all
                chats of the query's dimension and encoder.
            where: What the metadata must be: ``{"role": "user"}``, ``{"cell": {"$gte": 3}}``; keys of nested
                dicts with dots; $eq, $ne, $gt, $gte, $lt, $lte, $in, $exists.
            since: Items of this time or later: a datetime, seconds since 1970, or a timedelta before now.
            until: Items from before this time.
            mode: ``"exact"``, whose answers are those of brute force in float64, with the proof noted as
                ``hits.certified``; or ``"fast"``, for very large memories, which may miss some.

        Returns:
            `Hits`, a list of `Hit`; one such list per query where a table or a list of texts was given.

        Raises:
            ChatError: If the query fits no chat, holds NaN or infinity, or is zero, or an argument cannot be
                used.
        """
        wanted, chosen = read_k(k), read_mode(mode)
        selection = self._selection(chat_id, None, where, since, until)
        encoder = None
        if isinstance(query, str):
            rows, encoder = self._encode([query])
            single = True
        elif _are_texts(query):
            rows, encoder = self._encode(query)
            single = False
        else:
            rows, single = unit_query(query)
        found = self._find(rows, wanted, selection, chosen, encoder)
        lists = [
            Hits(hits_of(matches), certified=found.certified, rescored_rows=found.rescored_rows)
            for matches in found.found
        ]
        return lists[0] if single else lists

    def recall(self, text: str, k: int = 5, chat_id: str | None = None, **options: Any) -> Hits:
        """Return the k items most like a text; ``options`` are those of `search`.

        Raises:
            ChatError: If it is not a text, or `search` refuses it.
        """
        if not isinstance(text, str):
            raise ChatError(f"what to recall is a {type(text).__name__}: give a text, or use search()")
        hits: Hits = self.search(text, k, chat_id, **options)
        return hits

    def get(self, ids: Any, *, embeddings: bool = False) -> Any:
        """Return the item with this id, or a list of those with these ids.

        Raises:
            ChatError: If there is none with an id.
        """
        single = not isinstance(ids, (list, tuple, range))
        wanted = read_ids([ids] if single else ids, None) or []
        held = self._store.get(wanted, embeddings=embeddings)
        missing = [number for number in wanted if number not in held]
        if missing:
            more = f" (and {len(missing) - 1} more of those asked for)" if missing[1:] else ""
            raise ChatError(f"there is no item {missing[0]}{more}: it was forgotten, or never stored")
        items = [item_of(held[number]) for number in wanted]
        return items[0] if single else items

    def update(
        self,
        id: int,  # noqa: A002  # as hits and items call it
        *,
        embedding: Any = _UNSET,
        text: Any = _UNSET,
        metadata: Any = _UNSET,
    ) -> None:
        """Change one item; what is not given stays. A new text alone keeps the embedding that is there.

        Raises:
            ChatError: If there is no such item, or what is given cannot be stored.
        """
        (number,) = read_ids([id], None) or [0]
        given = {"row": embedding, "text": text, "metadata": metadata}
        fields = read_fields({name for name, value in given.items() if value is not _UNSET})
        row = encoder = None
        if "row" in fields:
            if isinstance(embedding, str):
                rows, encoder = self._encode([embedding])
            else:
                rows, _ = unit_query(embedding, noun="embedding")
            if len(rows) != 1:
                raise ChatError(f"the embedding is a table of {len(rows)} rows: give one row of shape (d,)")
            row = rows[0]
        change = Change(
            fields,
            read_texts([text], 1)[0] if "text" in fields else None,
            read_metadata([metadata], 1)[0] if "metadata" in fields else None,
            row,
            encoder,
        )
        with self._writing:
            self._store.update(number, change)

    def forget(
        self,
        chat_id: str | None = None,
        *,
        ids: Any = None,
        where: Mapping[str, Any] | None = None,
        since: Any = None,
        until: Any = None,
    ) -> int:
        """Drop a chat, or those of its items, or of all items, for which everything given holds.

        Returns:
            How many items were dropped. Their room is given back by `compact`.

        Raises:
            ChatError: If nothing is said of what to forget, or an argument cannot be used.
        """
        selection = self._selection(chat_id, ids, where, since, until)
        if selection == Selection():
            raise ChatError("say what to forget: a chat_id, ids, where, since or until")
        with self._writing:
            return self._store.forget(selection)

    def _selection(self, chat_id: Any, ids: Any, where: Any, since: Any, until: Any) -> Selection:
        numbers = None if ids is None else read_ids(ids, None)
        return Selection(
            None if chat_id is None else read_chat_id(chat_id),
            None if numbers is None else tuple(numbers),
            read_where(where),
            read_moment(since, "since"),
            read_moment(until, "until"),
        )

    def _find(
        self, rows: np.ndarray, k: int, selection: Selection, mode: Mode, encoder: str | None
    ) -> Matches:
        fading = None if self.policy is None else self.policy.fading()
        return self._store.search(rows, k, selection, mode=mode, encoder=encoder, fading=fading)

    def _read_rows(self, embeddings: Any, texts: Any) -> tuple[np.ndarray, str | None, Any]:
        """Return unit rows, the identity of the encoder if one made them, and the texts that go with them."""
        if isinstance(embeddings, str):
            raise ChatError("the embeddings are a single text: pass a list of texts, such as [text]")
        if _are_texts(embeddings):
            rows, encoder = self._encode(embeddings)
            return rows, encoder, embeddings if texts is None else texts
        return unit_rows(embeddings), None, texts

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, str]:
        encoder = as_encoder(self.encoder)
        return encode_texts(encoder, texts), identity_of(encoder)

    def list(
        self,
        chat_id: str | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        since: Any = None,
        until: Any = None,
        embeddings: bool = False,
    ) -> Iterator[Item]:
        """Yield the items of a chat, or of all, by id, without holding them all at once.

        The arguments are those of `search`; ``embeddings`` says whether the items carry their rows.
        """
        selection = self._selection(chat_id, None, where, since, until)
        return map(item_of, self._store.items(selection, embeddings=embeddings))


def _admission(policy: Policy) -> Admission | None:
    """Return what decides which rows are stored, where that is not all of them."""
    from titan_nb.chat.policy import Admission

    return None if policy.admits_all else Admission(policy)


def _are_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and any(isinstance(one, str) for one in value)
