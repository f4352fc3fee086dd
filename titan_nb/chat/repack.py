"""A chat's rows without those that were forgotten or replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING

from titan_nb.chat.catalog import CHUNK_ROWS, SLOT_BITS, Catalog
from titan_nb.chat.contents import Chat, Contents

if TYPE_CHECKING:
    from titan_nb.chat.chunk import Chunk

__all__ = ["repack"]

_COPIED_ROWS = 8192
"""Rows that are copied at a time: 12 MiB of 384 numbers each."""


def repack(contents: Contents, catalog: Catalog, chat: Chat) -> int:
    """Copy the rows that count into new chunks, where any do not, and drop the old ones.

    Full chunks without dead rows stay. In a folder the new files are on the disk before the catalogue names
    them, and the old ones are removed after it has ceased to: whenever this is cut short, one of the two is
    there as a whole.

    Returns:
        How many rows were dropped.
    """
    dropped = sum(chunk.dead for chunk in chat.chunks)
    if not dropped:
        for chunk in chat.chunks:
            chunk.trim()
        return 0
    old = [chunk for chunk in chat.chunks if chunk.dead or chunk.count < CHUNK_ROWS]
    catalog.begin()
    new = _copies(contents, catalog, chat, old)
    for chunk in old:
        catalog.drop_chunk(chunk.number)
    for chunk in new:
        chunk.trim()
        contents.put(catalog, chat, chunk, chunk.count, 0, chat.added)
        if contents.durable:
            chunk.sync()
    catalog.set_counters(contents.changed())
    catalog.commit()
    chat.chunks = [chunk for chunk in chat.chunks if chunk not in old]
    for chunk in new:
        contents.keep(chat, chunk)
    contents.drop(old)
    return dropped


def _copies(contents: Contents, catalog: Catalog, chat: Chat, old: list[Chunk]) -> list[Chunk]:
    new: list[Chunk] = []
    for chunk in old:
        places = list(catalog.places(chunk.number))
        done = 0
        while done < len(places):
            if not new or new[-1].count == CHUNK_ROWS:
                new.append(contents.begin_chunk(chat.name, chat.dimension))
            target, first = new[-1], new[-1].count
            part = places[done : done + min(_COPIED_ROWS, CHUNK_ROWS - first)]
            done += len(part)
            crc = target.write(chunk.rows[[place % CHUNK_ROWS for place in part]])
            if contents.durable:
                catalog.add_batch(target.number, first, len(part), crc)
            base = (target.number << SLOT_BITS) + first
            catalog.move_items(zip(range(base, base + len(part)), part, strict=True))
            target.publish(first + len(part))
    return new
