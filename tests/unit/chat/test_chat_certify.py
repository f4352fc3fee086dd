"""True scores, and the proof that no row which was left out can be among the best."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.chat import certify
from titan_nb.chat.block import Block
from titan_nb.chat.certify import Certificate, Table, dot_products, rounded
from titan_nb.chat.index import Index
from titan_nb.chat.top import Reach


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def table_of(rows: np.ndarray, cuts: list[int], numbers: np.ndarray | None = None) -> Table:
    numbers = np.arange(len(rows)) if numbers is None else numbers
    blocks = [
        Block(part, Index(rows.shape[1]), lambda places, own=own: own[places])
        for part, own in zip(np.split(rows, cuts), np.split(numbers, cuts), strict=True)
    ]
    return Table(blocks)


def brute_force(rows: np.ndarray, query: np.ndarray, k: int, numbers: np.ndarray) -> list[tuple[int, float]]:
    scores = rounded(dot_products(rows, np.arange(len(rows)), query.astype(np.float64)))
    order = np.lexsort((numbers, -scores))[:k]
    return list(zip(numbers[order].tolist(), scores[order].tolist(), strict=True))


@pytest.mark.parametrize("dimension", [1, 3, 384, 1000])
def test_scores_are_the_true_dot_products(dimension: int) -> None:
    random = np.random.default_rng(dimension)
    rows, query = (
        unit(random.standard_normal((40, dimension))),
        unit(random.standard_normal((1, dimension)))[0],
    )
    scores = table_of(rows, [10, 10, 25]).scores(np.arange(40), query.astype(np.float64))
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        truth = sum(
            (Fraction(x) * Fraction(y) for x, y in zip(row, query.tolist(), strict=True)), Fraction(0)
        )
        assert abs(Fraction(score) - truth) <= Fraction(certify.ROUNDING)
        assert round(score, 12) == score


def test_equal_rows_tie_wherever_they_are() -> None:
    random = np.random.default_rng(0)
    row, query = unit(random.standard_normal((1, 383))), unit(random.standard_normal((1, 383)))[0]
    rows = np.repeat(row, 9000, axis=0)
    table = table_of(rows, [1, 2, 5000])
    everything = table.scores(np.arange(9000), query.astype(np.float64))
    alone = table.scores(np.array([4321]), query.astype(np.float64))
    assert set(everything.tolist()) == set(alone.tolist())


def test_zero_has_one_sign() -> None:
    assert str(float(rounded(np.array([-1e-15]))[0])) == "0.0"


def test_weights_multiply_before_rounding() -> None:
    rows = np.eye(2, dtype=np.float32)
    block = Block(rows, Index(2), lambda places: places, weights=np.array([1 / 3, 1.0]))
    assert Table([block]).scores(np.array([0]), np.array([1.0, 0.0])).tolist() == [0.333333333333]


def test_places_and_numbers() -> None:
    table = table_of(np.eye(6, dtype=np.float32), [2, 2, 5], np.arange(10, 16))
    assert (len(table), table.dimension, table.start(3)) == (6, 6, 5)
    assert table.ids(np.array([5, 0, 2, 4])).tolist() == [15, 10, 12, 14]
    assert len(Table([])) == 0
    assert table.split(np.array([], dtype=np.int64)) == []


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.0, 1e-9, 0.01, 3.0]),
    st.sampled_from([1, 5, 90]),
    st.integers(1, 5),
    st.sampled_from([3, 1000]),
)
def test_any_bounds_that_hold_give_the_same_answer(
    seed: int, slack: float, k: int, offers: int, pending: int
) -> None:
    random = np.random.default_rng(seed)
    rows = unit(random.standard_normal((60, 8)).round(1) + 0.01)[random.integers(0, 60, 80)]
    numbers = random.permutation(80)
    query = unit(random.standard_normal((1, 8)))[0]
    truth = rows.astype(np.float64) @ query.astype(np.float64)
    spread = random.random(80) * slack + certify.ROUNDING
    lower, upper = truth - spread * random.random(80) - certify.ROUNDING, truth + spread
    proof = Certificate(table_of(rows, [7, 7, 50], numbers), query, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(certify, "_PENDING_ROWS", pending)
        patch.setattr(certify, "_FIRST_ROWS", 2)
        patch.setattr(certify, "_TIED_ROWS", 10)
        for places in np.array_split(random.permutation(80), offers):
            # What is below the floor may be left out, as the parts of a search do.
            places = places[upper[places] >= proof.floor]
            proof.offer(Reach(places, lower[places], upper[places]))
        found = proof.found()
    assert [(one.id, one.score) for one in found] == brute_force(rows, query, k, numbers)


def test_few_rows_are_scored_where_the_bounds_tell_them_apart() -> None:
    random = np.random.default_rng(9)
    rows, query = unit(random.standard_normal((5000, 32))), unit(random.standard_normal((1, 32)))[0]
    truth = rows.astype(np.float64) @ query.astype(np.float64)
    proof = Certificate(table_of(rows, [2000]), query, 10)
    proof.offer(Reach(np.arange(5000), truth - 0.01, truth + 0.01))
    assert [one.id for one in proof.found()] == np.argsort(-truth)[:10].tolist()
    assert 10 <= proof.rescored_rows <= 100


def test_thousands_of_ties_are_all_looked_at() -> None:
    rows = np.repeat(unit(np.ones((1, 16))), 70_000, axis=0)
    numbers = np.arange(70_000)[::-1].copy()
    proof = Certificate(table_of(rows, [10, 40_000], numbers), rows[0], 3)
    proof.offer(Reach(np.arange(70_000), np.full(70_000, 0.9), np.full(70_000, 1.1)))
    assert [one.id for one in proof.found()] == [0, 1, 2]
    assert proof.rescored_rows == 70_000


def test_nothing_offered_nothing_found() -> None:
    proof = Certificate(table_of(np.eye(3, dtype=np.float32), [1]), np.ones(3, dtype=np.float32), 2)
    proof.offer(Reach(np.array([], dtype=np.int64), np.array([]), np.array([])))
    assert proof.found() == []
    assert proof.rescored_rows == 0
