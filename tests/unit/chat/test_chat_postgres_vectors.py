from __future__ import annotations

import struct

import numpy as np

from titan_nb.chat.postgres.vectors import copy_rows, from_binary, to_binary


def test_rows_survive_the_binary_form_bit_for_bit() -> None:
    numbers = np.random.default_rng(0).integers(0, 2**32, size=(50, 7), dtype=np.uint32)
    rows = numbers.view(np.float32)
    rows = np.where(np.isfinite(rows), rows, np.float32(-0.0)).astype(np.float32)
    rows[0] = [0.0, -0.0, 1e-45, -1e-45, 3.4e38, 1.17549435e-38, 1.0]
    back = from_binary(to_binary(rows), 7)
    assert back.dtype == np.float32
    assert back.flags.writeable
    assert np.array_equal(back.view(np.uint32), rows.view(np.uint32))


def test_the_form_is_that_of_pgvector() -> None:
    (vector,) = to_binary(np.array([[1.0, -2.5]], np.float32))
    assert vector == struct.pack(">hhff", 2, 0, 1.0, -2.5)


def test_no_rows_are_no_vectors() -> None:
    assert to_binary(np.empty((0, 3), np.float32)) == []
    assert from_binary([], 3).shape == (0, 3)


def test_a_batch_is_written_as_copy_reads_it() -> None:
    vector = to_binary(np.array([[1.0]], np.float32))[0]
    whole = b"".join(copy_rows([7], 3, [1.5], ["ä"], [None], [None], [vector]))
    assert whole.startswith(b"PGCOPY\n\xff\r\n\x00" + bytes(8) + struct.pack(">h", 7))
    assert struct.pack(">iqiqid", 8, 7, 8, 3, 8, 1.5) in whole
    assert (
        struct.pack(">i", 2) + "ä".encode() + b"\xff\xff\xff\xff" * 2 + struct.pack(">i", 8) + vector in whole
    )
    assert whole.endswith(b"\xff\xff")


def test_large_batches_come_in_parts() -> None:
    vector = to_binary(np.ones((1, 1), np.float32))[0]
    texts = ["x" * 700_000] * 4
    parts = [*copy_rows(range(4), 1, [0.0] * 4, texts, [None] * 4, [None] * 4, [vector] * 4)]
    assert len(parts) == 3
    assert max(map(len, parts)) < 2_000_000
