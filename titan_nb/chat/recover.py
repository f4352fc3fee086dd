"""What an interrupted write or a failing disk left behind, found and put in order."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from titan_nb.chat.catalog import CHUNK_ROWS, SLOT_BITS
from titan_nb.chat.database import explained
from titan_nb.chat.disk import disk_error, flush, flush_folder
from titan_nb.chat.segment import Segment

if TYPE_CHECKING:
    from titan_nb.chat.folder import Folder

__all__ = ["LOST", "Recovered", "recover", "verify"]

LOST = "lost.jsonl"
"""Where in the folder the texts of lost rows are kept, one JSON object per line."""

_CHECKED_BYTES = 16 << 20
_CHECKED_BATCHES = 1000


@dataclass(frozen=True, slots=True)
class Recovered:
    """Items of one chat that are gone because the disk did not keep their rows.

    Attributes:
        chat_id: The chat.
        ids: Their numbers.
        reason: What was found.
    """

    chat_id: str
    ids: tuple[int, ...]
    reason: str

    def __str__(self) -> str:
        count = len(self.ids)
        named = ", ".join(map(str, self.ids[:5])) + (", ..." if count > 5 else "")
        items = "1 item" if count == 1 else f"{count} items"
        return f"{items} of chat {self.chat_id!r} lost (id {named}): {self.reason}; texts are kept in {LOST}"


@dataclass(frozen=True, slots=True)
class _Chunk:
    number: int
    chat_id: str
    dimension: int
    count: int


@dataclass(frozen=True, slots=True)
class _Batch:
    number: int
    chunk: int
    first: int
    count: int
    crc: int


def recover(connection: sqlite3.Connection, folder: Folder) -> tuple[Recovered, ...]:
    """Put a folder in order before it is written to.

    Files and rows that no commit names are removed. Of rows that a commit names, those are looked for which
    the disk did not keep: by the length of each file, and after an unclean end by the checksums of the newest
    16 MiB (at most 1000 batches), which is where a loss of power does its damage; `verify` looks at all.
    Batches lost at the end of a file are cut; others stay as rows without items.

    Args:
        connection: To the folder's database, in autocommit.
        folder: Opened for writing.

    Returns:
        What committed items are gone; nearly always nothing.

    Raises:
        ChatError: If a file cannot be cut or removed.
        ResourceError: If the disk is full.
    """
    chunks = _chunks(connection)
    suspects = _newest(connection) if folder.unclean else []
    bad: dict[_Batch, str] = {}
    sizes_bytes = {}
    for chunk in chunks.values():
        segment = _segment(folder, chunk)
        sizes_bytes[chunk.number], mended = segment.mend()
        if mended:
            # What else is wrong with this file?
            suspects += _batches(connection, chunk.number)
        if sizes_bytes[chunk.number] < segment.file_bytes:
            batches = _batches(connection, chunk.number)
            missing = [
                one for one in batches if segment.end(one.first + one.count) > sizes_bytes[chunk.number]
            ]
            bad |= dict.fromkeys(missing, "the end of their file is missing")
    bad |= _damaged(folder, chunks, [batch for batch in suspects if batch not in bad])
    found = _take_out(connection, folder, chunks, bad, cut=True)
    _drop_dead_chunks(connection)
    chunks = _chunks(connection)
    for number in folder.numbers() - chunks.keys():
        folder.remove(number)
    for chunk in chunks.values():
        segment = _segment(folder, chunk)
        if sizes_bytes[chunk.number] > segment.file_bytes:
            segment.truncate(chunk.count)
    return found


def verify(connection: sqlite3.Connection, folder: Folder) -> tuple[Recovered, ...]:
    """Check every row against its checksum, and take the items of damaged ones out.

    A reader, which may take nothing out, only gets the list.

    Raises:
        ChatError: If the database is damaged; it has no checksums, and what is found is its structure.
        ResourceError: If the disk is full.
    """
    (sound,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if sound != "ok":
        raise explained(sqlite3.DatabaseError(f"malformed: {sound}"), folder.path)
    chunks = _chunks(connection)
    batches = [batch for number in chunks for batch in _batches(connection, number)]
    bad = _damaged(folder, chunks, batches)
    if bad and folder.mode == "r":
        # Files that the writer has compacted away in the meantime are not damaged.
        now = {batch for number in chunks for batch in _batches(connection, number)}
        bad = {batch: reason for batch, reason in bad.items() if batch in now}
        return tuple(_grouped(connection, chunks, bad))
    return _take_out(connection, folder, chunks, bad, cut=False)


def _chunks(connection: sqlite3.Connection) -> dict[int, _Chunk]:
    rows = connection.execute(
        "SELECT chunks.number, chats.name, chunks.dimension, chunks.count "
        "FROM chunks JOIN chats ON chats.number = chunks.chat"
    )
    return {row[0]: _Chunk(*row) for row in rows}


def _batches(connection: sqlite3.Connection, chunk: int) -> list[_Batch]:
    rows = connection.execute(
        "SELECT number, chunk, first, count, crc FROM batches WHERE chunk = ? ORDER BY first", (chunk,)
    )
    return [_Batch(*row) for row in rows]


def _newest(connection: sqlite3.Connection) -> list[_Batch]:
    """Return the batches that were committed last."""
    rows = connection.execute(
        "SELECT batches.number, chunk, first, batches.count, crc, dimension FROM batches "
        "JOIN chunks ON chunks.number = chunk ORDER BY batches.number DESC LIMIT ?",
        (_CHECKED_BATCHES,),
    )
    newest: list[_Batch] = []
    left_bytes = _CHECKED_BYTES
    for *batch, dimension in rows:
        if left_bytes <= 0:
            break
        newest.append(_Batch(*batch))
        left_bytes -= newest[-1].count * 4 * dimension
    return newest


def _damaged(folder: Folder, chunks: Mapping[int, _Chunk], batches: Iterable[_Batch]) -> dict[_Batch, str]:
    """Return the batches whose bytes are not what was written, with the reason."""
    bad = {}
    for batch in batches:
        if not _segment(folder, chunks[batch.chunk]).check(batch.first, batch.count, batch.crc):
            bad[batch] = "their bytes on the disk are not what was written"
    return bad


def _segment(folder: Folder, chunk: _Chunk) -> Segment:
    """Return the file of a chunk, not looked at: `Segment.open` would refuse a damaged one."""
    return Segment(folder.segment_path(chunk.number), chunk.dimension, chunk.count, new=False)


def _take_out(
    connection: sqlite3.Connection,
    folder: Folder,
    chunks: Mapping[int, _Chunk],
    bad: Mapping[_Batch, str],
    *,
    cut: bool,
) -> tuple[Recovered, ...]:
    """Take the items of ``bad`` batches out of the catalogue, having kept their texts beside it."""
    if not bad:
        return ()
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _grouped(connection, chunks, bad)
        _keep_texts(connection, folder, chunks, bad)
        for batch in bad:
            connection.execute("DELETE FROM items WHERE place >= ? AND place < ?", _places(batch))
        for number in {batch.chunk for batch in bad}:
            if cut:
                _cut(connection, number, bad)
            first = number << SLOT_BITS
            connection.execute(
                "UPDATE chunks SET dead = count - "
                "(SELECT count(*) FROM items WHERE place >= ? AND place < ?) WHERE number = ?",
                (first, first + CHUNK_ROWS, number),
            )
        connection.executemany("DELETE FROM batches WHERE number = ?", [(batch.number,) for batch in bad])
        # A search that is under way must not take what comes to these places for what was there.
        connection.execute("UPDATE counters SET changes = changes + 1")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
    return tuple(found)


def _cut(connection: sqlite3.Connection, chunk: int, bad: Mapping[_Batch, str]) -> None:
    """Let a chunk end where only bad batches follow."""
    for batch in reversed(_batches(connection, chunk)):
        if batch not in bad:
            return
        connection.execute("UPDATE chunks SET count = ? WHERE number = ?", (batch.first, chunk))


def _drop_dead_chunks(connection: sqlite3.Connection) -> None:
    """Drop chunks of which no row counts any more, and chats that have none left."""
    dead = connection.execute("SELECT number FROM chunks WHERE count = dead").fetchall()
    if not dead:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.executemany("DELETE FROM batches WHERE chunk = ?", dead)
        connection.executemany("DELETE FROM chunks WHERE number = ?", dead)
        connection.execute("DELETE FROM chats WHERE number NOT IN (SELECT chat FROM chunks)")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _grouped(
    connection: sqlite3.Connection, chunks: Mapping[int, _Chunk], bad: Mapping[_Batch, str]
) -> list[Recovered]:
    """Return the items of bad batches by chat and reason; rows without items are nobody's loss."""
    ids: dict[tuple[str, str], list[int]] = {}
    for batch, reason in bad.items():
        found = connection.execute("SELECT id FROM items WHERE place >= ? AND place < ?", _places(batch))
        ids.setdefault((chunks[batch.chunk].chat_id, reason), []).extend(row[0] for row in found)
    return [Recovered(chat, tuple(sorted(lost)), reason) for (chat, reason), lost in ids.items() if lost]


def _keep_texts(
    connection: sqlite3.Connection, folder: Folder, chunks: Mapping[int, _Chunk], bad: Iterable[_Batch]
) -> None:
    path = folder.path / LOST
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "a", encoding="utf-8") as file:
            for batch in bad:
                items = connection.execute(
                    "SELECT id, time, text, metadata FROM items WHERE place >= ? AND place < ?",
                    _places(batch),
                )
                for number, time, text, metadata in items:
                    kept = {"id": number, "chat_id": chunks[batch.chunk].chat_id, "time": time, "text": text}
                    kept["metadata"] = None if metadata is None else json.loads(metadata)
                    file.write(json.dumps(kept) + "\n")
            file.flush()
            flush(file.fileno())
        flush_folder(folder.path)
    except OSError as error:
        raise disk_error(error, "keeping the texts of lost rows", folder.path) from error


def _places(batch: _Batch) -> tuple[int, int]:
    first = (batch.chunk << SLOT_BITS) + batch.first
    return first, first + batch.count
