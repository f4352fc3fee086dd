"""Embeddings of every kind: read exactly, or refused before anything is stored."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from titan_nb.chat import ChatMemory, process_embeddings
from titan_nb.chat.normalise import unit_query, unit_rows
from titan_nb.chat.rows import read_row, read_rows, read_table
from titan_nb.errors import ChatError

TABLE = np.array([[3.0, 4.0, 0.0], [0.0, 1.0, -2.0]])


class Subclass(torch.Tensor):
    """A tensor class of the user's own."""


class Unreadable:
    """A foreign array that fails when it is read."""

    def __array__(self, *_args: object, **_options: object) -> np.ndarray:
        raise RuntimeError("no numbers today")


def inference_table() -> torch.Tensor:
    with torch.inference_mode():
        return torch.from_numpy(TABLE.copy()) * 1


def quiet(make: Callable[[], object]) -> Callable[[], object]:
    """Silence torch's own notes on prototype features while making the tensor."""

    def made() -> object:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()

    return made


def read_only() -> np.ndarray:
    array = TABLE.copy()
    array.flags.writeable = False
    return array


GOOD: dict[str, Callable[[], object]] = {
    "float64 tensor": lambda: torch.from_numpy(TABLE.copy()),
    "float32 tensor": lambda: torch.tensor(TABLE, dtype=torch.float32),
    "float16 tensor": lambda: torch.tensor(TABLE, dtype=torch.float16),
    "bfloat16 tensor": lambda: torch.tensor(TABLE, dtype=torch.bfloat16),
    "requires_grad": lambda: torch.tensor(TABLE, requires_grad=True),
    "inside a graph": lambda: torch.tensor(TABLE, requires_grad=True) * 2,
    "parameter": lambda: torch.nn.Parameter(torch.tensor(TABLE)),
    "inference mode": inference_table,
    "transposed": lambda: torch.tensor(TABLE.T.copy()).T,
    "every other column": lambda: torch.tensor(np.repeat(TABLE, 2, axis=1))[:, ::2],
    "expanded": lambda: torch.tensor([[3.0, 4.0, 0.0]]).expand(2, 3),
    "conjugate view": lambda: torch.complex(torch.zeros(2, 3), -torch.tensor(TABLE).float()).conj().imag,
    "subclass": lambda: torch.tensor(TABLE).as_subclass(Subclass),
    "shared memory": lambda: torch.tensor(TABLE).share_memory_(),
    "array": TABLE.copy,
    "float16 array": lambda: TABLE.astype("float16"),
    "Fortran order": lambda: np.asfortranarray(TABLE),
    "big-endian": lambda: TABLE.astype(">f4"),
    "negative strides": lambda: TABLE[::-1, ::-1],
    "field of a record": lambda: np.array(
        [[(1, float(x)) for x in row] for row in TABLE], dtype=[("tag", "i1"), ("x", "<f8")]
    )["x"],
    "read-only": read_only,
    "masked array, nothing masked": lambda: np.ma.array(TABLE),
    "data frame": lambda: pd.DataFrame(TABLE),
    "list of lists": TABLE.tolist,
    "whole numbers in lists": lambda: [[3, 4, 0], [0, 1, -2]],
    "tuple of tuples": lambda: tuple(map(tuple, TABLE.tolist())),
    "list of arrays": lambda: list(TABLE),
    "list of tensors": lambda: list(torch.tensor(TABLE, dtype=torch.float16)),
    "list of mixed rows": lambda: [torch.tensor([3.0, 4.0, 0.0]), [0.0, 1.0, np.float32(-2.0)]],
}
NAN, INF = float("nan"), float("inf")
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "NaN": (lambda: torch.tensor([[1.0, 2.0, 3.0], [1.0, NAN, INF]]), "row 1 holds NaN"),
    "Inf": (lambda: torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, INF]]), "row 1 holds an infinite"),
    "-Inf": (lambda: np.array([[1.0, -INF, 0.0]]), "row 0 holds an infinite"),
    "NaN in a list": (lambda: [[1.0, 2.0, 3.0], [0.0, 0.0, NAN]], "row 1 holds NaN"),
    "zeros": (lambda: torch.tensor([[1.0, 0.0, 0.0], [0.0, -0.0, 0.0]]), "row 1 is all zeros"),
    "subnormal float32": (lambda: torch.full((1, 3), 1e-40), "row 0 is as good as zero"),
    "subnormal float64": (lambda: np.full((1, 3), 5e-324), "row 0 is as good as zero"),
    "0-d": (lambda: torch.tensor(1.0), r"shape \(\)"),
    "1-d tensor": (lambda: torch.ones(3), r"x\[None, :\]"),
    "1-d array": (lambda: np.ones(3), r"x\[None, :\]"),
    "1-d list": (lambda: [1.0, 2.0, 3.0], r"pass \[x\]"),
    "no rows, no columns": (lambda: torch.ones(0), r"shape \(0,\)"),
    "3-d": (lambda: torch.ones(1, 1, 3), r"row 0 has shape \(1, 3\)"),
    "no columns": (lambda: torch.ones(2, 0), "row 0, like every row, is empty"),
    "empty list": (list, "empty list"),
    "ragged list": (lambda: [[1.0, 2.0, 3.0], [1.0, 2.0]], "row 1 has 2 numbers, row 0 has 3"),
    "list with an empty row": (lambda: [[1.0, 2.0, 3.0], []], r"row 1 has shape \(0,\)"),
    "list with None": (lambda: [[1.0, None, 3.0]], "row 0 holds a NoneType"),
    "list with text": (lambda: [[1.0, 2.0, 3.0], [1.0, "2", 3.0]], "row 1 holds a str"),
    "list with bool": (lambda: [[1.0, True, 0.0]], "row 0 holds a bool"),
    "list with complex": (lambda: [[1.0, 1j, 0.0]], "row 0 holds a complex"),
    "list with fraction": (lambda: [[1.0, Fraction(1, 3), 0.0]], "row 0 holds a Fraction"),
    "list with a huge number": (lambda: [[1.0, 10**400, 0.0]], "row 0 holds a number too large"),
    "list of tables": (lambda: [torch.ones(2, 3)], r"row 0 has shape \(2, 3\)"),
    "list with an int row": (lambda: [torch.ones(3), torch.ones(3).int()], "row 1 has dtype int32"),
    "int64": (lambda: torch.ones(2, 3).long(), "row 0, like every row, has dtype int64"),
    "int8": (lambda: torch.ones(2, 3).to(torch.int8), "dtype int8"),
    "bool": (lambda: torch.ones(2, 3).bool(), "dtype bool"),
    "complex": (lambda: torch.ones(2, 3, dtype=torch.complex64), "dtype complex64"),
    "float8": (lambda: torch.ones(2, 3).to(torch.float8_e4m3fn), "dtype float8_e4m3fn"),
    "sparse COO": (lambda: torch.ones(2, 3).to_sparse(), "sparse"),
    "sparse CSR": (quiet(lambda: torch.ones(2, 3).to_sparse_csr()), "sparse"),
    "nested": (quiet(lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(2)])), "nested"),
    "quantised": (
        quiet(lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8)),
        "quantised",
    ),
    "meta": (lambda: torch.ones(2, 3, device="meta"), "meta device"),
    "int array": (lambda: np.ones((2, 3), dtype=int), "dtype int64"),
    "bool array": (lambda: np.ones((2, 3), dtype=bool), "dtype bool"),
    "complex array": (lambda: np.ones((2, 3), dtype=complex), "dtype complex128"),
    "object array": (lambda: TABLE.astype(object), "dtype object"),
    "long double": (lambda: TABLE.astype(np.longdouble), f"dtype {np.dtype(np.longdouble)}"),
    "text array": (lambda: np.array([["a", "b", "c"]]), "dtype <U1"),
    "masked": (lambda: np.ma.array(TABLE, mask=TABLE == 0), "masked"),
    "mixed data frame": (lambda: pd.DataFrame({"a": [1.0], "b": ["x"], "c": [2.0]}), "dtype object"),
    "unreadable array": (Unreadable, "no numbers today"),
    "generator": (lambda: (row for row in TABLE.tolist()), "comes as generator"),
    "dict": (lambda: {"a": [1.0]}, "comes as dict"),
    "None": (lambda: None, "comes as NoneType"),
    "bytes": (lambda: b"abc", "comes as bytes"),
}


@pytest.mark.parametrize("kind", GOOD)
def test_good_kinds_are_stored_as_they_are(kind: str) -> None:
    embeddings = GOOD[kind]()
    expected = np.array(read_rows(GOOD[kind]()).detach().to(torch.float64).tolist())
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    if kind not in ("expanded", "negative strides", "conjugate view"):
        np.testing.assert_allclose(expected, TABLE / np.linalg.norm(TABLE, axis=1, keepdims=True), rtol=1e-3)

    processed = process_embeddings(embeddings)
    assert type(processed) is torch.Tensor
    assert (processed.dtype, processed.requires_grad, processed.is_contiguous()) == (
        torch.float32,
        False,
        True,
    )
    np.testing.assert_allclose(processed.numpy(), expected, atol=2e-7)

    unit = unit_rows(GOOD[kind]())
    assert (unit.dtype, unit.flags.c_contiguous, unit.flags.writeable) == (np.float32, True, True)
    np.testing.assert_allclose(unit, expected, atol=1e-7)

    memory = ChatMemory()
    assert memory.add("a", GOOD[kind]()) == [0, 1]
    best = memory.search(expected[1])[0]
    assert best.score == pytest.approx(1.0, abs=1e-6)
    assert best.id == (0 if kind == "expanded" else 1)


@pytest.mark.parametrize("kind", GOOD)
def test_good_kinds_are_queries_row_by_row(kind: str) -> None:
    table = GOOD[kind]()
    query = table.to_numpy()[0] if isinstance(table, pd.DataFrame) else table[0]  # type: ignore[index]
    memory = ChatMemory()
    memory.add("a", GOOD[kind]())
    best = memory.search(query, k=1)[0]
    assert (best.id, best.score) == (0, pytest.approx(1.0, abs=1e-6))
    rows, single = unit_query(query)
    assert single
    np.testing.assert_array_equal(rows, unit_rows(GOOD[kind]())[:1])
    rows, single = unit_query(GOOD[kind]())
    assert not single
    np.testing.assert_array_equal(rows, unit_rows(GOOD[kind]()))


@pytest.mark.parametrize("kind", BAD)
def test_bad_kinds_are_refused_and_nothing_is_stored(kind: str) -> None:
    make, message = BAD[kind]
    memory = ChatMemory()
    memory.add("a", TABLE)
    before = memory.stats()
    for chat_id in ("a", "new"):
        with pytest.raises(ChatError, match=message):
            memory.add(chat_id, make())
    assert memory.stats() == before
    assert memory.add("a", TABLE) == [2, 3]
    with pytest.raises(ChatError, match=message):
        process_embeddings(make())


BAD_QUERIES: dict[str, tuple[Callable[[], object], str]] = {
    "NaN": (lambda: torch.tensor([1.0, NAN, 2.0]), "the query holds NaN"),
    "Inf": (lambda: [1.0, INF, 2.0], "the query holds an infinite"),
    "zeros": (lambda: np.zeros(3), "the query is all zeros"),
    "subnormal": (lambda: torch.full((3,), 1e-40), "the query is as good as zero"),
    "0-d": (lambda: torch.tensor(1.0), r"the query has shape \(\)"),
    "empty": (lambda: torch.ones(0), r"the query has shape \(0,\)"),
    "empty list": (list, r"the query has shape \(0,\)"),
    "list with a list": (lambda: [1.0, [2.0], 3.0], "the query holds a list"),
    "table with NaN": (lambda: [[1.0, 2.0, 3.0], [1.0, NAN, 0.0]], "query 1 holds NaN"),
    "table with zeros": (lambda: torch.eye(3)[[0, 1]] * torch.tensor([[1.0], [0.0]]), "query 1 is all zeros"),
    "ragged table": (lambda: [[1.0, 2.0, 3.0], [1.0, 2.0]], "query 1 has 2 numbers, query 0 has 3"),
    "table of int": (lambda: np.ones((2, 3), dtype=int), "query 0, like every query, has dtype int64"),
    "list of tables": (lambda: [torch.ones(2, 3)], "the query holds a Tensor"),
    "3-d": (lambda: torch.ones(1, 1, 3), r"the query has shape \(1, 1, 3\)"),
    "too short": (lambda: torch.ones(2), "the query has 2 numbers"),
    "int": (lambda: torch.ones(3).int(), "the query has dtype int32"),
    "bool": (lambda: np.ones(3, dtype=bool), "the query has dtype bool"),
    "complex": (lambda: torch.ones(3, dtype=torch.complex64), "the query has dtype complex64"),
    "object": (lambda: np.ones(3).astype(object), "the query has dtype object"),
    "sparse": (lambda: torch.ones(3).to_sparse(), "the query is in a sparse"),
    "quantised": (
        quiet(lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)),
        "the query is quantised",
    ),
    "meta": (lambda: torch.ones(3, device="meta"), "the query is on the meta device"),
    "masked": (lambda: np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), "masked"),
    "huge number": (lambda: [1.0, 10**400, 0.0], "the query holds a number too large"),
    "generator": (lambda: iter([1.0, 2.0, 3.0]), "the query comes as list_iterator"),
    "None": (lambda: None, "the query comes as NoneType"),
    "object with no numbers": (SimpleNamespace, "the query comes as SimpleNamespace"),
}


@pytest.mark.parametrize("kind", BAD_QUERIES)
def test_bad_queries_are_refused(kind: str) -> None:
    make, message = BAD_QUERIES[kind]
    memory = ChatMemory()
    memory.add("a", TABLE)
    with pytest.raises(ChatError, match=message):
        memory.search(make())
    assert len(memory) == 2


def test_a_table_without_rows_keeps_its_shape() -> None:
    assert read_rows(torch.ones(0, 3)).shape == (0, 3)
    assert process_embeddings(np.ones((0, 3))).shape == (0, 3)
    memory = ChatMemory()
    assert memory.add("a", torch.ones(0, 3)) == []
    assert "a" not in memory


def test_reading_does_not_copy_what_can_be_used_as_it_is() -> None:
    table = TABLE.copy()
    assert read_rows(table).data_ptr() == table.ctypes.data
    assert read_table(table) is table
    tensor = torch.from_numpy(table)
    assert read_row(tensor[1], "x").data_ptr() == table[1].ctypes.data


def test_the_default_device_of_the_user_does_not_matter() -> None:
    torch.set_default_device("meta")
    try:
        memory = ChatMemory()
        memory.add("a", TABLE)
        memory.add("a", TABLE.tolist())
        assert process_embeddings(TABLE).device.type == "cpu"
        assert [hit.id for hit in memory.search([3.0, 4.0, 0.0], k=2)] == [0, 2]
    finally:
        torch.set_default_device(None)


def test_many_dimensions() -> None:
    row = torch.ones(1, 10**6)
    memory = ChatMemory()
    memory.add("a", row)
    assert memory.search(row[0])[0].score == pytest.approx(1.0, abs=1e-6)
