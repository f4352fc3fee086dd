"""No score that may belong to the best k is left out, and few others are taken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.chat.top import Reach, kth_best, near, reach, reach_on_device


def wanted(values: np.ndarray, k: int, slack: float, floor: float) -> np.ndarray:
    """The rows that must be there: within twice the slack of the k-th best, and within it of the floor."""
    counted = values[np.isfinite(values)].astype(np.float64)
    kth = np.sort(counted)[-k] if len(counted) >= k else -np.inf
    exact = values.astype(np.float64)
    return np.flatnonzero(np.isfinite(values) & (exact >= max(kth - 2 * slack, floor - slack)))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, 30, 1023, 8191, 8192, 9000, 20_000]),
    st.sampled_from([1, 3]),
    st.sampled_from([1, 10, 200, 600, 30_000]),
    st.sampled_from([0.0, 1e-7, 0.02, 3.0]),
    st.sampled_from([-np.inf, -1.0, 0.2, 2.0]),
    st.booleans(),
)
def test_nothing_within_reach_is_left_out(
    seed: int, count: int, queries: int, k: int, slack: float, floor: float, coarse: bool
) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((count, queries)).astype(np.float32)
    if coarse:
        values = np.round(values, 1)
    values[random.random(values.shape) < 0.3] = -np.inf
    found = reach(values, k, [slack] * queries, [floor] * queries)
    for query, places in enumerate(found):
        assert len(set(places.tolist())) == len(places)
        must = wanted(values[:, query], k, slack, floor)
        assert set(must.tolist()) <= set(places.tolist())
        assert np.isfinite(values[places, query]).all()
        assert len(places) <= max(48, k, len(wanted(values[:, query], k, slack + 1e-5, floor)))


def test_a_part_of_the_table_is_read_once() -> None:
    values = np.zeros((20_000, 1), dtype=np.float32)
    best = [5, 1023, 1024, 19_455, 19_456, 19_999]
    values[best] = 1
    [places] = reach(values, 6, [0.1], [-np.inf])
    assert sorted(places.tolist()) == best


def test_masked_rows_are_never_taken() -> None:
    values = np.full((50, 1), -np.inf, dtype=np.float32)
    assert near(values[:, 0], 3, 0.1, -np.inf).tolist() == []
    values[7] = -1
    assert near(values[:, 0], 3, 0.1, -np.inf).tolist() == [7]


@pytest.mark.parametrize(("k", "value"), [(1, 3.0), (3, 1.0), (4, -np.inf)])
def test_kth_best(k: int, value: float) -> None:
    assert kth_best(np.array([1.0, 3.0, 2.0]), k) == value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 7, 500])
@pytest.mark.parametrize("each", [True, False])
def test_the_device_names_the_same_rows(k: int, dtype: torch.dtype, each: bool) -> None:
    random = np.random.default_rng(5)
    values = random.standard_normal((4, 300)).astype(np.float32)
    values[:, ::7] = -np.inf
    values[3] = -np.inf
    bound = random.random((4, 300) if each else (4, 1)) * 0.1
    floors = [-np.inf, 0.5, 9.0, -np.inf]
    found = reach_on_device(torch.from_numpy(values).to(dtype), torch.from_numpy(bound), k, floors)
    assert [type(one) for one in found] == [Reach] * 4
    full = np.broadcast_to(bound, values.shape)
    for query, one in enumerate(found):
        lower, upper = values[query] - full[query], values[query] + full[query]
        floor = max(np.sort(lower)[-k] if k <= 300 else -np.inf, floors[query])
        places = np.flatnonzero((upper >= floor) & np.isfinite(values[query]))
        np.testing.assert_array_equal(one.places, places)
        np.testing.assert_allclose(one.lower, lower[places])
        np.testing.assert_allclose(one.upper, upper[places])
