"""What changes a local memory: adding, updating, forgetting.

Each of these writes rows where nobody looks yet, then the catalogue, and last lets the rows count. The caller
keeps other threads out, and brings catalogue and contents together again where one of them was cut short.
"""

from __future__ import annotations

import sqlite3
import time
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from titan_nb.chat.catalog import CHUNK_ROWS, SLOT_BITS, Catalog
from titan_nb.chat.contents import Chat, Contents
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.chunk import Chunk
    from titan_nb.chat.store import Batch, Change, Selection

__all__ = ["add", "forget", "update"]


class _Part(NamedTuple):
    """Rows that were written to a chunk: how many, from which slot on."""

    chunk: Chunk
    first: int
    size: int


def add(contents: Contents, catalog: Catalog, chat_id: str, batch: Batch) -> tuple[list[int], list[Chunk]]:
    """Store a batch; return the ids of its rows, and the chunks they went to.

    Raises:
        ChatError: If an id is taken, or the chat has another dimension or encoder.
    """
    rows = batch.rows
    count, dimension = rows.shape
    chat = contents.chats.get(chat_id)
    if chat is not None:
        chat.refuse_mixture(dimension, batch.encoder, "row 0")
    counters = contents.counters
    if batch.ids is None:
        ids = list(range(counters.next_id, counters.next_id + count))
        next_id = counters.next_id + count
    else:
        ids = list(batch.ids)
        next_id = contents.next_id_after(ids)
    try:
        if chat is not None and _is_quick(contents, chat, batch):
            chunk = chat.chunks[-1]
            slot = chunk.count
            chunk.write(rows)
            place = (chunk.number << SLOT_BITS) + slot
            catalog.add_item((place, ids[0], batch.times[0], batch.texts[0], batch.metadata[0]))
            chunk.publish(slot + 1)
            chat.added = time.time()
            contents.counters = counters._replace(next_id=next_id)
            return ids, [chunk]
        catalog.begin()
        added = time.time()
        if chat is None:
            number = catalog.add_chat(chat_id, dimension, batch.encoder)
            chat = Chat(number, chat_id, dimension, batch.encoder, added)
        elif chat.encoder is None and batch.encoder is not None:
            catalog.set_encoder(chat.number, batch.encoder)
        parts = _write(contents, catalog, chat, rows, added)
        places = chain.from_iterable(
            range((chunk.number << SLOT_BITS) + first, (chunk.number << SLOT_BITS) + first + size)
            for chunk, first, size in parts
        )
        catalog.add_items(zip(places, ids, batch.times, batch.texts, batch.metadata, strict=True))
    except sqlite3.IntegrityError as error:
        refusal = _taken(catalog, ids)
        if refusal is None:
            raise
        raise refusal from error
    contents.counters = contents.counters._replace(next_id=next_id)
    if contents.durable:
        catalog.set_counters(contents.counters)
    catalog.commit()
    chat.added = added
    chat.encoder = chat.encoder or batch.encoder
    return ids, _publish(contents, chat, parts)


def update(contents: Contents, catalog: Catalog, number: int, change: Change) -> list[Chunk]:
    """Change one item; return the chunks that a row went to.

    Raises:
        ChatError: If there is none of this number, or the new row does not fit its chat.
    """
    held = catalog.with_ids([number])
    if not held:
        raise ChatError(f"there is no item {number}: it was forgotten, or never stored")
    place, _, moment, text, metadata = held[0]
    old_place = place
    old = contents.chunks[place >> SLOT_BITS]
    chat = contents.chats[old.chat]
    if change.row is not None:
        chat.refuse_mixture(len(change.row), change.encoder, "the new row")
    catalog.begin()
    parts: list[_Part] = []
    if "text" in change.fields:
        text = change.text
    if "metadata" in change.fields:
        metadata = change.metadata
    if change.row is not None:
        parts = _write(contents, catalog, chat, change.row[None, :], chat.added)
        new = parts[0]
        place = (new.chunk.number << SLOT_BITS) + new.first
        count = old.count + new.size if new.chunk is old else old.count
        contents.put(catalog, chat, old, count, old.dead + 1, chat.added)
        if chat.encoder is None and change.encoder is not None:
            catalog.set_encoder(chat.number, change.encoder)
    catalog.change_item((place, number, moment, text, metadata), old_place)
    catalog.set_counters(contents.changed())
    catalog.commit()
    if change.row is None:
        return []
    chat.encoder = chat.encoder or change.encoder
    chunks = _publish(contents, chat, parts)
    old.kill([old_place % CHUNK_ROWS])
    return chunks


def forget(contents: Contents, catalog: Catalog, selection: Selection) -> int:
    """Drop the selected items and return how many there were; a chat without items is gone."""
    named = selection.chat_id
    chats = [chat for name, chat in contents.chats.items() if named is None or name == named]
    places: dict[int, list[int]] = {}
    if not selection.plain:
        numbers = [chunk.number for chat in chats for chunk in chat.chunks]
        for place, _ in catalog.select(selection, numbers):
            places.setdefault(place >> SLOT_BITS, []).append(place)
        names = {contents.chunks[number].chat for number in places}
        chats = [chat for chat in chats if chat.name in names]
    if not chats:
        return 0
    catalog.begin()
    forgotten = 0
    gone: list[Chat] = []
    for chat in chats:
        held = chat.rows
        dropped = held if selection.plain else sum(len(places.get(one.number, ())) for one in chat.chunks)
        forgotten += dropped
        if dropped == held:
            gone.append(chat)
            for chunk in chat.chunks:
                catalog.drop_chunk(chunk.number)
                places.pop(chunk.number, None)
            catalog.drop_chat(chat.number)
    for number, dead in places.items():
        chunk = contents.chunks[number]
        catalog.drop_items(dead)
        chat = contents.chats[chunk.chat]
        contents.put(catalog, chat, chunk, chunk.count, chunk.dead + len(dead), chat.added)
    catalog.set_counters(contents.changed())
    catalog.commit()
    for number, dead in places.items():
        contents.chunks[number].kill([place % CHUNK_ROWS for place in dead])
    for chat in gone:
        del contents.chats[chat.name]
        contents.drop(chat.chunks)
    return forgotten


def _is_quick(contents: Contents, chat: Chat, batch: Batch) -> bool:
    """Say whether a batch is one row that needs no more than one statement: a transaction takes three."""
    if contents.durable or len(batch.rows) != 1 or chat.chunks[-1].count == CHUNK_ROWS:
        return False
    return chat.encoder is not None or batch.encoder is None


def _write(contents: Contents, catalog: Catalog, chat: Chat, rows: np.ndarray, added: float) -> list[_Part]:
    """Write rows after the last of a chat, where they do not count yet, and note it in the catalogue."""
    parts: list[_Part] = []
    done = 0
    chunk = contents.chunk_with_room(chat)
    while True:
        first = chunk.count
        size = min(len(rows) - done, CHUNK_ROWS - first)
        crc = chunk.write(rows[done : done + size])
        if contents.durable:
            chunk.sync()
            catalog.add_batch(chunk.number, first, size, crc)
        if contents.durable or not first:
            contents.put(catalog, chat, chunk, first + size, chunk.dead, added)
        parts.append(_Part(chunk, first, size))
        done += size
        if done == len(rows):
            return parts
        chunk = contents.begin_chunk(chat.name, chat.dimension)


def _publish(contents: Contents, chat: Chat, parts: list[_Part]) -> list[Chunk]:
    for chunk, first, size in parts:
        chunk.publish(first + size)
        contents.keep(chat, chunk)
    return [part.chunk for part in parts]


def _taken(catalog: Catalog, ids: list[int]) -> ChatError | None:
    """Return the error to raise where items have some of these ids already."""
    catalog.rollback()
    taken = set(catalog.taken(ids))
    row = next((row for row, number in enumerate(ids) if number in taken), None)
    if row is None:
        return None
    more = f", and {len(taken) - 1} more are taken" if len(taken) > 1 else ""
    return ChatError(
        f"row {row} cannot have the id {ids[row]}: another item has it{more}; give other ids, or none, or "
        "change that item with update()"
    )
