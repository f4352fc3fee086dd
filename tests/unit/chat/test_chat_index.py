"""Codes and sketches of a growing chunk, made by the searches that use them."""

from __future__ import annotations

import threading

import numpy as np

from titan_nb.chat.codes import Codes, quantise
from titan_nb.chat.index import Index


def table(count: int, dimension: int = 64, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def test_codes_are_the_same_however_they_came() -> None:
    rows = table(3000)
    expected = Codes.empty(3000, 64)
    quantise(rows, expected)
    index = Index(64)
    for count in (1, 2, 700, 1024, 1025, 3000):
        index.extend(rows[:count])
        assert index.count == count
    for one, other in zip(index.codes(rows), expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sketches_are_the_same_however_they_came() -> None:
    rows = table(3000, 100)
    whole, grown = Index(100), Index(100)
    for count in (1, 700, 1024, 1025, 3000):
        grown.sketches(rows[:count])
        assert grown.sketched_count == count
    expected = whole.sketches(rows)
    assert expected.shape == (2, 3000)
    np.testing.assert_array_equal(grown.sketches(rows), expected)


def test_an_older_view_sees_its_own_rows() -> None:
    rows = table(2000)
    index = Index(64)
    first = index.codes(rows[:900])
    kept = first.values.copy()
    index.extend(rows)
    assert len(index.codes(rows[:900]).values) == 900
    assert index.count == 2000
    np.testing.assert_array_equal(first.values, kept)


def test_bytes_and_release() -> None:
    rows = table(65_536, 64)
    index = Index(64)
    assert (index.count, index.host_bytes) == (0, 0)
    index.extend(rows)
    assert index.host_bytes == 65_536 * 70
    index.sketches(rows)
    assert index.host_bytes == 65_536 * 78
    before = index.codes(rows).values[:10].copy()
    index.release()
    assert (index.count, index.sketched_count, index.host_bytes) == (0, 0, 0)
    np.testing.assert_array_equal(index.codes(rows).values[:10], before)


def test_room_grows_by_doubling() -> None:
    rows = table(1300, 16)
    index = Index(16)
    sizes = set()
    for count in range(1, 1301, 7):
        index.extend(rows[:count])
        sizes.add(index.host_bytes)
    assert len(sizes) == 2


def test_threads_may_extend_and_release_together() -> None:
    rows = table(4000)
    expected = Index(64).codes(rows)
    index = Index(64)
    wrong: list[str] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(30):
            count = int(random.integers(1, 4001))
            codes = index.codes(rows[:count])
            if not (codes.values == expected.values[:count]).all():
                wrong.append(f"{count} rows")
            if random.random() < 0.2:
                index.release()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
