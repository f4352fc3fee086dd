"""The chat memory."""

from __future__ import annotations

import json
import operator
import threading
from typing import TYPE_CHECKING, Any

from titan_nb.chat.annotations import read_chat_id, read_metadata, read_texts
from titan_nb.chat.chunk import Chunk
from titan_nb.chat.cosine import nearest
from titan_nb.chat.device import own_rules, resolve
from titan_nb.chat.encoder import Encoder
from titan_nb.chat.normalise import normalise
from titan_nb.chat.records import ChatStats, Hit, MemoryStats
from titan_nb.chat.rows import read_query, read_rows
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import torch

__all__ = ["ChatMemory"]


class ChatMemory:
    """Embeddings in the kernel, by chat, with their texts and metadata.

    Rows are kept as unit vectors in float32 tensors, one per chat. All rows of a memory have the same
    dimension; an empty memory takes any. Every method may be called from any thread.

    Args:
        encoder: Turns a list of n texts into an (n, d) table; needed to store or search by text. It can also
            be set later, as ``memory.encoder``.
        device: Where the tensors live, such as ``"cuda:0"``; by default the host, which leaves the GPU to
            you.

    Raises:
        SettingsError: If the device cannot be used here.
    """

    def __init__(self, encoder: Encoder | None = None, device: str | None = None) -> None:
        self.encoder = encoder
        self._device_name = "cpu" if device is None else str(resolve(device))
        self._chunks: dict[str, Chunk] = {}
        self._next_id = 0
        self._lock = threading.Lock()

    def add(self, chat_id: str, embeddings: Any, texts: Any = None, metadata: Any = None) -> list[int]:
        """Store rows under ``chat_id``: all of them or, after an exception, none.

        Args:
            chat_id: The chat; it is made when it is new.
            embeddings: Tensor, array or list of lists of floating-point numbers, shape (n, d); or a list of
                n texts where an encoder is set. Copied: neither modified nor kept.
            texts: One text or None per row. By default the texts that were encoded, if they were.
            metadata: One dict or None per row, or one dict for all. Kept as JSON, which turns tuples into
                lists and keys into text.

        Returns:
            The ids of the rows, in order; no id is ever given twice.

        Raises:
            ChatError: If anything cannot be stored; it names the row.
            ResourceError: If memory is short.
        """
        name = read_chat_id(chat_id)
        if isinstance(embeddings, str):
            raise ChatError("the embeddings are a single text: pass a list of texts, such as [text]")
        if isinstance(embeddings, (list, tuple)) and any(isinstance(item, str) for item in embeddings):
            rows = self._encode(embeddings)
            texts = embeddings if texts is None else texts
        else:
            rows = self._read(embeddings)
        count, dimension = rows.shape
        row_texts = read_texts(texts, count)
        row_metadata = read_metadata(metadata, count)
        with self._lock:
            self._refuse_other_dimension(dimension, "row 0")
        if count == 0:
            return []
        unit = normalise(rows, self._device())
        with self._lock:
            # Again: another thread may have stored the first rows in the meantime.
            self._refuse_other_dimension(dimension, "row 0")
            ids = list(range(self._next_id, self._next_id + count))
            # Before the rows are stored: an interrupt in between may skip ids, and never gives one twice.
            self._next_id += count
            chunk = self._chunks.get(name)
            if chunk is None:
                self._chunks[name] = Chunk(unit, ids, row_texts, row_metadata)
            else:
                chunk.append(unit, ids, row_texts, row_metadata)
        return ids

    def search(self, query: Any, k: int = 5, chat_id: str | None = None) -> list[Hit]:
        """Return the k rows most like ``query`` by cosine, best first, equal scores by id.

        Args:
            query: One row of d numbers as tensor, array or list; or a text where an encoder is set.
            k: How many; fewer come back when fewer are stored.
            chat_id: Look in this chat only; one that does not exist has no rows. By default look in all.

        Raises:
            ChatError: If the query has another dimension than the memory, holds NaN or infinity, or is zero,
                or if ``k`` is not a whole number of at least 1.
        """
        wanted = _read_k(k)
        name = None if chat_id is None else read_chat_id(chat_id)
        row = self._encode([query]) if isinstance(query, str) else self._read_query(query)
        unit = normalise(row, self._device(), subject=lambda _: "the query")[0]
        with self._lock:
            self._refuse_other_dimension(len(unit), "the query")
            names = list(self._chunks) if name is None else [name] if name in self._chunks else []
            views = [self._chunks[each].view() for each in names]
        hits = []
        for place, number, score in nearest(views, unit, wanted):
            view = views[place]
            notes = view.metadata[number]
            loaded = None if notes is None else json.loads(notes)
            hits.append(Hit(view.ids[number], names[place], score, view.texts[number], loaded))
        return hits

    def forget(self, chat_id: str) -> int:
        """Drop a chat with its rows, texts and metadata.

        Returns:
            How many rows were dropped; 0 when there is no such chat.

        Raises:
            ChatError: If ``chat_id`` is not a text, or empty.
        """
        name = read_chat_id(chat_id)
        with self._lock:
            chunk = self._chunks.pop(name, None)
        return 0 if chunk is None else chunk.count

    def stats(self) -> MemoryStats:
        """Return how much is stored, in all and by chat."""
        with self._lock:
            per_chat = {
                name: ChatStats(chunk.count, chunk.size_bytes, chunk.dimension, chunk.last_added)
                for name, chunk in self._chunks.items()
            }
            dimension = self._dimension()
        return MemoryStats(
            chats=len(per_chat),
            rows=sum(chat.rows for chat in per_chat.values()),
            bytes=sum(chat.bytes for chat in per_chat.values()),
            dimension=dimension,
            device=self._device_name,
            per_chat=per_chat,
        )

    def chats(self) -> list[str]:
        """Return the ids of all chats, the oldest first."""
        with self._lock:
            return list(self._chunks)

    def __len__(self) -> int:
        with self._lock:
            return sum(chunk.count for chunk in self._chunks.values())

    def __contains__(self, chat_id: object) -> bool:
        with self._lock:
            return chat_id in self._chunks

    def __repr__(self) -> str:
        stats = self.stats()
        if not stats.chats:
            return f"<ChatMemory: empty, on {stats.device}>"
        chats = f"{stats.chats} chat" + ("" if stats.chats == 1 else "s")
        return f"<ChatMemory: {stats.rows} rows of {stats.dimension} numbers in {chats}, on {stats.device}>"

    def _dimension(self) -> int | None:
        return next((chunk.dimension for chunk in self._chunks.values()), None)

    def _refuse_other_dimension(self, dimension: int, subject: str) -> None:
        held = self._dimension()
        if held not in (None, dimension):
            raise ChatError(
                f"{subject} has {dimension} numbers, and this memory holds rows of {held}: use one model "
                "for all, forget the old chats, or make another ChatMemory()"
            )

    def _device(self) -> torch.device:
        import torch

        return torch.device(self._device_name)

    def _read(self, embeddings: Any) -> torch.Tensor:
        with own_rules(self._device()):
            return read_rows(embeddings)

    def _read_query(self, query: Any) -> torch.Tensor:
        with own_rules(self._device()):
            return read_query(query)[None, :]

    def _encode(self, texts: Any) -> torch.Tensor:
        for number, text in enumerate(texts):
            if not isinstance(text, str):
                raise ChatError(
                    f"row {number} is a {type(text).__name__} among texts: pass only texts, or none"
                )
        if self.encoder is None:
            raise ChatError(
                "text needs an encoder, and none is set: set memory.encoder to a function that takes a list "
                "of n texts and returns an (n, d) array, or pass embeddings"
            )
        # The user's own function: what it raises reaches him as it is.
        answer = self.encoder(list(texts))
        try:
            rows = self._read(answer)
        except ChatError as error:
            raise ChatError(f"the encoder's answer cannot be used: {error}") from error
        if len(rows) != len(texts):
            raise ChatError(
                f"the encoder returned {len(rows)} rows for {len(texts)} texts: it must return one each"
            )
        return rows


def _read_k(k: Any) -> int:
    try:
        wanted = 0 if isinstance(k, bool) else operator.index(k)
    except TypeError:
        wanted = 0
    if wanted < 1:
        raise ChatError(f"k is {k!r}: give a whole number of at least 1")
    return wanted
