"""The measured error of 8-bit codes bounds the true one, in exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from titan_nb.chat.codes import Codes, quantise

finite = st.floats(-1, 1, width=32)
tables = hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 40)), elements=finite)


def coded(rows: np.ndarray) -> Codes:
    codes = Codes.empty(*rows.shape)
    quantise(rows, codes)
    return codes


def squared_error(row: np.ndarray, values: np.ndarray, scale: float) -> Fraction:
    pairs = zip(row.tolist(), values.tolist(), strict=True)
    return sum(((Fraction(x) - value * Fraction(scale)) ** 2 for x, value in pairs), Fraction(0))


@settings(max_examples=150, deadline=None)
@given(tables)
def test_the_stored_error_is_at_least_the_true_one(rows: np.ndarray) -> None:
    codes = coded(rows)
    for row, values, scale, error in zip(
        rows, codes.values, codes.float_scales().tolist(), codes.errors.tolist(), strict=True
    ):
        assert Fraction(error) ** 2 >= squared_error(row, values, scale)
        assert np.abs(values.astype(int)).max() <= 127


@pytest.mark.parametrize(
    "row",
    [
        np.eye(1, 384, 7),
        np.full((1, 384), 384**-0.5),
        np.full((1, 384), 1e-40),
        np.zeros((1, 384)),
        np.where(np.arange(384) == 3, 1, 1e-39)[None],
        np.where(np.arange(384) % 2, 0.05, -0.0502)[None],
    ],
    ids=["one-hot", "equal", "denormal", "zero", "one and denormals", "near the step"],
)
def test_rows_at_the_edges(row: np.ndarray) -> None:
    row = row.astype(np.float32)
    codes = coded(row)
    truth = squared_error(row[0], codes.values[0], float(codes.float_scales()[0]))
    assert Fraction(float(codes.errors[0])) ** 2 >= truth
    assert codes.errors[0] <= 0.05


def test_the_error_is_not_much_larger_than_the_true_one() -> None:
    rows = np.random.default_rng(1).standard_normal((700, 384)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    codes = coded(rows)
    stood_for = codes.values * codes.float_scales().astype(np.float64)[:, None]
    truth = np.sqrt(((rows - stood_for) ** 2).sum(axis=1))
    assert (codes.errors >= truth).all()
    assert (codes.errors <= truth * 1.0001).all()
    assert codes.errors.mean() < 0.008


def test_scales_are_bfloat16_numbers_and_bytes_are_few() -> None:
    rows = np.random.default_rng(2).standard_normal((100, 384)).astype(np.float32)
    codes = coded(rows)
    assert not (codes.float_scales().view(np.uint32) & 0xFFFF).any()
    assert codes.nbytes == 100 * 390


def test_room_begins_with_what_was_there() -> None:
    rows = np.random.default_rng(3).standard_normal((10, 8)).astype(np.float32)
    codes = coded(rows)
    more = Codes.empty(20, 8, codes)
    for old, new in zip(codes, more.part(0, 10), strict=True):
        np.testing.assert_array_equal(old, new)
    taken = codes.take(np.array([7, 2]))
    np.testing.assert_array_equal(taken.values, codes.values[[7, 2]])
    np.testing.assert_array_equal(taken.errors, codes.errors[[7, 2]])
