"""Rows and batches in the binary forms that PostgreSQL and pgvector read and write."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LARGEST_DIMENSION", "copy_rows", "from_binary", "to_binary"]

LARGEST_DIMENSION = 16_000
"""The most numbers that pgvector's type ``vector`` holds."""

# https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format"
_HEAD = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_END = struct.pack(">h", -1)
_NULL = struct.pack(">i", -1)
_FIXED = struct.Struct(">hiqiqid")
_LENGTH = struct.Struct(">i")
# Version 1 of the binary form of jsonb: a byte, then the text.
_JSONB = b"\x01"
_PART_BYTES = 1 << 20


def to_binary(rows: np.ndarray) -> list[bytes]:
    """Return each float32 row, shape (n, d), as pgvector sends and takes it, bit for bit.

    That is: the dimension and a zero as 16-bit integers, then the numbers, all in network order.
    """
    import numpy as np

    count, dimension = rows.shape
    if not count:
        return []
    head = np.frombuffer(struct.pack(">hh", dimension, 0), np.uint8)
    table = np.empty((count, 4 + 4 * dimension), np.uint8)
    table[:, :4] = head
    table[:, 4:] = np.ascontiguousarray(rows, ">f4").view(np.uint8)
    whole, size = table.tobytes(), table.shape[1]
    return [whole[start : start + size] for start in range(0, len(whole), size)]


def from_binary(vectors: Sequence[bytes], dimension: int) -> np.ndarray:
    """Return what `to_binary` was made of, shape (n, d)."""
    import numpy as np

    table = np.frombuffer(b"".join(vectors), ">f4").reshape(len(vectors), 1 + dimension)
    return table[:, 1:].astype(np.float32)


def copy_rows(
    ids: Sequence[int],
    chat: int,
    times: Sequence[float],
    texts: Iterable[str | None],
    metadata: Iterable[str | None],
    facts: Iterable[str | None],
    vectors: Iterable[bytes],
) -> Iterator[bytes]:
    """Yield a batch for ``COPY titan_item (id, chat, time, text, metadata, facts, embedding)``, in parts."""
    part: list[bytes] = [_HEAD]
    size = 0
    for number, time, text, noted, fact, vector in zip(
        ids, times, texts, metadata, facts, vectors, strict=True
    ):
        part += (
            _FIXED.pack(7, 8, number, 8, chat, 8, time),
            _field(None if text is None else text.encode()),
            _field(None if noted is None else noted.encode()),
            _field(None if fact is None else _JSONB + fact.encode()),
            _field(vector),
        )
        size += len(vector) + len(text or "") + len(noted or "")
        if size >= _PART_BYTES:
            yield b"".join(part)
            part, size = [], 0
    part.append(_END)
    yield b"".join(part)


def _field(data: bytes | None) -> bytes:
    return _NULL if data is None else _LENGTH.pack(len(data)) + data
