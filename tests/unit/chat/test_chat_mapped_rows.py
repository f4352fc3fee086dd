"""Rows that are a part of a file: not copied, and valid whatever becomes of it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.unit.chat.segments import DIMENSION, table
from titan_nb.chat.segment import HEADER_BYTES, Segment
from titan_nb.errors import ChatError, ResourceError


def test_rows_are_the_file_and_not_a_copy(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    segment.append(table(4))
    rows = segment.rows()
    with path.open("r+b") as file:
        file.seek(HEADER_BYTES)
        file.write(np.float32(7).tobytes())
    assert rows[0, 0] == 7
    assert rows.ctypes.data % 64 == 0


def test_what_is_written_to_the_rows_stays_in_this_process(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    segment.append(table(4))
    segment.rows()[:] = 0
    np.testing.assert_array_equal(Segment.open(path, DIMENSION, 4).rows(), table(4))


def test_torch_takes_the_rows_without_a_warning(path: Path) -> None:
    import torch

    segment = Segment.create(path, DIMENSION)
    segment.append(table(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = torch.from_numpy(segment.rows())
    assert torch.equal(tensor, torch.from_numpy(table(4)))


def test_rows_stay_valid_while_the_file_grows_closes_and_goes(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    seen = []
    for number in range(300):
        segment.append(table(1, number))
        seen.append(segment.rows())
    segment.close()
    path.unlink()
    everything = np.concatenate([table(1, number) for number in range(300)])
    for count, rows in enumerate(seen, 1):
        np.testing.assert_array_equal(rows, everything[:count])


def test_a_row_appended_later_needs_no_new_mapping_each_time(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    addresses = set()
    for number in range(1000):
        segment.append(table(1, number))
        addresses.add(segment.rows().ctypes.data)
    assert len(addresses) <= 6


def test_a_file_that_somebody_cut_is_not_mapped(path: Path) -> None:
    segment = Segment.create(path, DIMENSION)
    segment.append(table(3))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ChatError, match="shorter than the 3 rows"):
        segment.rows()


def test_rows_that_cannot_be_mapped(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segment = Segment.create(path, DIMENSION)
    segment.append(table(3))
    monkeypatch.setattr("titan_nb.chat.segment._FIRST_ROOM_ROWS", 1 << 50)
    with pytest.raises(ResourceError, match="cannot be mapped"):
        segment.rows()
