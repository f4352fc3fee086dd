"""Unit rows on the host: exact, alike whatever the batch, of one's own, and without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from titan_nb.chat import normalise as normalise_module
from titan_nb.chat.normalise import unit_query, unit_rows
from titan_nb.errors import ChatError, ResourceError


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.tuples(st.integers(1, 8), st.integers(1, 20)),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=16),
    ),
    st.sampled_from([1.0, 1e30, 1e-30, 1e300, 1e-300]),
)
def test_every_finite_row_gets_length_one_or_is_refused(table: np.ndarray, factor: float) -> None:
    if table.dtype == np.float64:
        table = table * factor
    least = np.finfo(np.float64 if table.dtype == np.float64 else np.float32).tiny
    good = np.abs(table.astype(np.float64)).max(axis=1) >= least
    if good.all():
        unit = unit_rows(table)
        np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), 1.0, atol=1e-6, rtol=0)
        largest = np.abs(table.astype(np.float64)).max(axis=1, keepdims=True)
        exact = table.astype(np.float64) / largest
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, exact, atol=6e-8, rtol=6e-8)
    else:
        with pytest.raises(ChatError, match=f"^row {int(np.argmin(good))} is "):
            unit_rows(table)


@pytest.mark.parametrize("dimension", [3, 384, 1001])
def test_a_row_is_the_same_alone_and_in_any_batch(dimension: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = np.random.default_rng(2).standard_normal((300, dimension)).astype(np.float32)
    whole = unit_rows(table)
    assert all(np.array_equal(unit_rows(table[row : row + 1])[0], whole[row]) for row in range(300))
    assert np.array_equal(unit_rows(np.asfortranarray(table)), whole)
    assert unit_rows(np.asfortranarray(table)).flags.c_contiguous
    monkeypatch.setattr(normalise_module, "_CAREFUL_NUMBERS", 7 * dimension)
    assert np.array_equal(unit_rows(table), whole)
    table[123] = np.nan
    with pytest.raises(ChatError, match="row 123 holds NaN"):
        unit_rows(table)


def test_the_result_shares_no_memory_and_the_input_stays() -> None:
    for table in (np.eye(3, dtype=np.float32), torch.eye(3)):
        unit = unit_rows(table)
        unit[:] = 7
        assert np.array_equal(np.asarray(table), np.eye(3))
    assert np.array_equal(unit_query(table[0])[0], [[1, 0, 0]])


def test_neither_warnings_nor_the_users_own_rules_of_numpy_matter() -> None:
    table = np.array([[1e300, 1e300], [1e-300, 1e-300], [1.0, 1e-42]])
    signalling = np.array([[0x7FA00000, 0x3F800000]], dtype=np.uint32).view(np.float32)
    small = np.array([[3.0, 1e-42]], dtype=np.float32)
    with np.errstate(all="raise"):
        unit = unit_rows(table)
        for row in range(3):
            np.testing.assert_array_equal(unit_rows(table[row : row + 1])[0], unit[row])
        tiny = unit_rows(small)
        with pytest.raises(ChatError, match="row 0 holds NaN"):
            unit_rows(signalling)
    assert np.array_equal(unit_rows(table), unit)
    np.testing.assert_allclose(tiny, [[1.0, 1e-42 / 3]], rtol=1e-2)
    np.testing.assert_allclose(unit, [[0.5**0.5] * 2, [0.5**0.5] * 2, [1, 1e-42]], rtol=1e-3)
    with pytest.raises(ChatError, match="row 1 holds NaN"):
        unit_rows([[1e300, 1e300], [np.nan, np.inf]])


def test_what_a_row_is_called() -> None:
    with pytest.raises(ChatError, match=r"^the second text is all zeros"):
        unit_rows([[1.0], [0.0]], subject=["the first text", "the second text"].__getitem__)
    with pytest.raises(ChatError, match=r"^the embedding is all zeros"):
        unit_query([0.0], noun="embedding")
    with pytest.raises(ChatError, match=r"^embedding 1 is all zeros"):
        unit_query([[1.0], [0.0]], noun="embedding")


def test_tables_and_rows_are_told_apart() -> None:
    tables = ([[3, 4]], [np.array([3.0, 4.0])], (torch.tensor([3.0, 4.0]),), np.array([[3.0, 4.0]]))
    rows = ([3, 4], (3.0, np.float32(4)), np.array([3.0, 4.0]), torch.tensor([3.0, 4.0]))
    for query, single in [(query, False) for query in tables] + [(query, True) for query in rows]:
        unit, found = unit_query(query)
        assert found is single
        np.testing.assert_allclose(unit, [[0.6, 0.8]], rtol=1e-6)
    assert unit_query(np.ones((0, 3)))[0].shape == (0, 3)


def test_a_shortage_says_how_much_was_needed() -> None:
    huge = np.broadcast_to(np.float32(1), (10**9, 10**6))
    with pytest.raises(ResourceError, match="a table of 1000000000 x 1000000 numbers needs") as raised:
        unit_rows(huge)
    assert (raised.value.requested_bytes, raised.value.device) == (4 * 10**15, "cpu")


def test_an_error_that_is_no_shortage_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_table: object) -> np.ndarray:
        raise RuntimeError("something else")

    monkeypatch.setattr(normalise_module, "_on_the_host", broken)
    with pytest.raises(RuntimeError, match="something else"):
        unit_rows(np.ones((1, 2)))


def test_arrays_and_lists_need_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from titan_nb.chat.normalise import unit_query, unit_rows\n"
        "unit_rows(np.ones((3, 2))), unit_rows([[1.0, 2.0], np.ones(2)]), unit_query([1, 2])\n"
        "try:\n"
        "    unit_rows(np.broadcast_to(np.float32(1), (10**9, 10**6)))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["ResourceError", "False"]
