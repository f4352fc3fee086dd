"""Sketches of one bit a number: what they promise, and when they step aside."""

from __future__ import annotations

import numpy as np
import pytest

from titan_nb.chat import bits
from titan_nb.chat.bits import Sketched, likely, sketch, words_of
from titan_nb.chat.codes import Codes, quantise
from titan_nb.chat.scans import Queries


def unit(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def clustered(random: np.random.Generator, centres: np.ndarray, count: int) -> np.ndarray:
    chosen = centres[random.integers(0, len(centres), count)]
    return unit(chosen + 0.7 * unit(random.standard_normal((count, centres.shape[1]))))


def sketched(rows: np.ndarray, alive: np.ndarray | None = None) -> Sketched:
    codes = Codes.empty(*rows.shape)
    quantise(rows, codes)
    words = np.empty((words_of(rows.shape[1]), len(rows)), dtype=np.uint64)
    sketch(rows, words)
    return Sketched(words, codes, alive)


def counted(words: np.ndarray, signs: np.ndarray) -> np.ndarray:
    return np.array(
        [[bin(int(a) ^ int(b)).count("1") for a in column] for column, b in zip(words, signs, strict=True)]
    ).sum(0)


@pytest.mark.parametrize("dimension", [3, 64, 100, 384])
def test_differing_signs_tell_the_angle(dimension: int) -> None:
    random = np.random.default_rng(1)
    rows = unit(random.standard_normal((3000, dimension)))
    query = unit(rows[:1] + 0.5 * unit(random.standard_normal((1, dimension))))
    some, asked = sketched(rows), sketched(query)
    differing = bits._differing(some.sketches, asked.sketches[:, 0], None)
    np.testing.assert_array_equal(differing[:50], counted(some.sketches[:, :50], asked.sketches[:, 0]))
    width = 64 * words_of(dimension)
    share = np.arccos(np.clip(rows @ query[0], -1, 1)) / np.pi
    deviation = (differing - width * share) / np.sqrt(width * share * (1 - share))
    # A rotation spreads less than independent signs would, whose bound the search relies on.
    assert abs(deviation.mean()) < 0.35
    if dimension >= 64:
        assert deviation.std() < 1.05
        assert (deviation <= bits.DEVIATIONS).mean() > 0.995


def test_the_best_are_likely_and_few() -> None:
    random = np.random.default_rng(2)
    centres = unit(random.standard_normal((1000, 128)))
    rows, queries = clustered(random, centres, 60_000), clustered(random, centres, 100)
    parts = [sketched(rows[:40_000]), sketched(rows[40_000:])]
    kept, looked_at = 0, 0
    for query in queries:
        found = likely(parts, Queries(query[None]), 10)
        assert found is not None
        places = np.concatenate((found[0], found[1] + 40_000))
        kept += len(set(np.argsort(-(rows @ query))[:10].tolist()) & set(places.tolist()))
        looked_at += len(places)
    assert kept >= 995
    assert looked_at <= 100 * 60_000 / 16


def test_rows_that_do_not_count_are_not_likely() -> None:
    random = np.random.default_rng(3)
    rows = clustered(random, unit(random.standard_normal((500, 128))), 30_000)
    alive = random.random(30_000) < 0.7
    alive[0] = False
    found = likely([sketched(rows, alive)], Queries(rows[:1]), 5)
    assert found is not None
    assert len(found[0]) >= 5
    assert alive[found[0]].all()


def test_rows_without_near_ones_are_left_to_an_exact_search() -> None:
    random = np.random.default_rng(4)
    rows = unit(random.standard_normal((30_000, 64)))
    assert likely([sketched(rows)], Queries(unit(random.standard_normal((1, 64)))), 10) is None


@pytest.mark.parametrize("count", [20, 3000])
def test_few_rows_are_left_to_an_exact_search(count: int) -> None:
    rows = unit(np.random.default_rng(5).standard_normal((count, 64)))
    assert likely([sketched(rows)], Queries(rows[:1]), 10) is None


def test_a_query_far_from_all_rows_is_left_to_an_exact_search() -> None:
    random = np.random.default_rng(6)
    rows = clustered(random, unit(random.standard_normal((1, 64))), 30_000)
    assert likely([sketched(rows)], Queries(-rows[:1]), 10) is None


def test_rows_that_all_tie_at_the_top_are_taken_at_once() -> None:
    random = np.random.default_rng(7)
    rows = unit(random.standard_normal((40_000, 64)))
    rows[:600] = rows[0]
    found = likely([sketched(rows)], Queries(rows[:1]), 10)
    assert found is not None
    assert set(range(600)) <= set(found[0].tolist())


def test_nobody_elses_random_numbers_are_drawn() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()
    bits.rotation.cache_clear()
    first = bits.rotation(100)
    assert np.random.get_state()[1].tolist() == before
    bits.rotation.cache_clear()
    np.testing.assert_array_equal(bits.rotation(100), first)
    np.testing.assert_allclose(first @ first.T, np.eye(100), atol=1e-5)


def test_old_numpy_and_long_rows_have_no_sketches(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bits.available(384)
    assert not bits.available(4096)
    monkeypatch.delattr(np, "bitwise_count")
    assert not bits.available(384)
