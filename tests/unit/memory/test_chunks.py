"""Pieces of data: all rows once, in order, however little memory there is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from titan_nb.errors import ResourceError, SettingsError
from titan_nb.memory import attempts
from titan_nb.memory.chunks import chunks

ROWS = 10
DATA: dict[str, Any] = {
    "tensor": torch.arange(ROWS * 2).reshape(ROWS, 2),
    "array": np.arange(ROWS * 2).reshape(ROWS, 2),
    "list": list(range(ROWS)),
    "tuple": tuple(range(ROWS)),
    "text": "abcdefghij",
    "range": range(ROWS),
    "frame": pd.DataFrame({"a": range(ROWS)}, index=range(ROWS, 0, -1)),
    "series": pd.Series(range(ROWS), index=list("abcdefghij")),
    "memory": memoryview(bytes(range(ROWS))),
}


def plain(piece: Any) -> list[Any]:
    values = piece.to_numpy() if isinstance(piece, (pd.DataFrame, pd.Series)) else piece
    return np.array(list(values)).tolist()


@pytest.mark.parametrize("name", DATA)
def test_any_data_is_divided_by_position(name: str) -> None:
    x = DATA[name]
    pieces = list(chunks(x, 4))
    assert [len(piece) for piece in pieces] == [4, 4, 2]
    assert [value for piece in pieces for value in plain(piece)] == plain(x)
    assert type(pieces[0]) is type(x)
    assert [plain(piece) for piece in chunks(x, 4).map(lambda piece: piece)] == [plain(p) for p in pieces]


def test_without_a_size_it_is_one_piece() -> None:
    assert list(chunks([1, 2, 3])) == [[1, 2, 3]]
    assert list(chunks([])) == []
    assert chunks([], 3).map(len) == []
    assert chunks([1, 2], 100).map(len) == [2]


@given(
    count=st.integers(0, 200),
    size=st.one_of(st.none(), st.integers(1, 250)),
    minimum=st.integers(1, 250),
    most=st.integers(0, 200),
)
def test_each_row_is_done_once_and_in_order(count: int, size: int | None, minimum: int, most: int) -> None:
    minimum = min(minimum, size or minimum)
    tried: list[int] = []
    done: list[int] = []

    def work(part: list[int]) -> list[int]:
        tried.append(len(part))
        if len(part) > most:
            raise MemoryError
        done.extend(part)
        return part

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts, "gc", SimpleNamespace(collect=lambda: 0))  # a fifth of a second each time
        try:
            found = chunks(list(range(count)), size, minimum=minimum).map(work)
        except ResourceError:
            assert most < tried[-1] <= minimum
        else:
            assert [row for part in found for row in part] == done
            assert len(done) == count
    assert done == list(range(len(done)))
    assert tried[:1] == ([min(count, size or count)] if count else [])
    assert sum(rows > most for rows in tried) <= 9, "each failure halves"


def test_a_smaller_size_holds_for_all_that_follows() -> None:
    tried: list[int] = []

    def work(part: range) -> int:
        tried.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return part.start

    assert chunks(range(10), 8).map(work) == [0, 2, 4, 6, 8]
    assert tried == [8, 4, 2, 2, 2, 2, 2]


def test_loops_do_not_halve() -> None:
    pieces = iter(chunks(range(10), 4))
    sizes: list[int] = []

    def body(piece: range) -> None:
        sizes.append(len(piece))
        raise MemoryError

    with pytest.raises(MemoryError):
        body(next(pieces))
    assert sizes == [4]
    assert next(pieces) == range(4, 8)


def test_too_little_memory_for_the_minimum() -> None:
    def embed(part: range) -> None:
        if part.start >= 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes")

    with pytest.raises(ResourceError) as raised:
        chunks(range(2000), 4, minimum=2).map(embed)
    assert str(raised.value).startswith(
        "memory is short on cpu for embed on rows 4 to 5 of 2,000: it asked for 4.0 KiB, "
    )
    assert raised.value.requested_bytes == 4096
    assert isinstance(raised.value.__cause__, RuntimeError)
    assert raised.value.__cause__.__traceback__ is None


def test_a_piece_that_is_a_copy_may_be_too_large_itself() -> None:
    class Rows:
        """Such as a table that is read from a file."""

        def __len__(self) -> int:
            return 8

        def __getitem__(self, rows: slice) -> list[int]:
            if rows.stop - rows.start > 2:
                raise MemoryError
            return list(range(rows.start, rows.stop))

    assert chunks(Rows()).map(sum) == [1, 5, 9, 13]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x"), RuntimeError("other")])
def test_every_other_error_passes_through(error: BaseException) -> None:
    def work(part: range) -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        chunks(range(10), 4).map(work)
    assert raised.value is error


@pytest.mark.parametrize(
    ("x", "size", "minimum", "message"),
    [
        (torch.tensor(5), 1, 1, "a Tensor has no first axis here: pass a tensor, array, list or data frame"),
        (iter([1]), 1, 1, "a list_iterator has no first axis"),
        (5, 1, 1, "a int has no first axis"),
        ({"a": 1}, 1, 1, "a dict has no slices"),
        ({1, 2}, 1, 1, "a set has no slices"),
        ([1], 0, 1, "size is 0"),
        ([1], "8", 1, "size is '8'"),
        ([1], 4, 0, "minimum is 0"),
        ([1], 4, 5, "minimum is 5, above size, which is 4"),
    ],
)
def test_what_cannot_be_divided(x: Any, size: Any, minimum: int, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        chunks(x, size, minimum=minimum)


def test_generators_are_refused() -> None:
    def work(part: range) -> Any:
        yield part

    with pytest.raises(TypeError, match="work is a coroutine or generator function"):
        chunks(range(3)).map(work)
