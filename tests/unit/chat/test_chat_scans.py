"""Each kernel keeps its bound; what is missing, wrong or slow here is not used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.chat import scans
from titan_nb.chat.codes import Codes, quantise
from titan_nb.chat.scans import CONVERTED, INTEGER, PACKED, Kernel, Queries

KERNELS = (PACKED, INTEGER, CONVERTED)


@pytest.fixture(autouse=True)
def _choose_anew() -> Iterator[None]:
    scans._chosen.cache_clear()
    yield
    scans._chosen.cache_clear()


def unit(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(np.float64)
    return np.ascontiguousarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


def coded(rows: np.ndarray) -> Codes:
    codes = Codes.empty(*rows.shape)
    quantise(rows, codes)
    return codes


def tables(random: np.random.Generator, kind: str, count: int, dimension: int) -> np.ndarray:
    rows = random.standard_normal((count, dimension))
    if kind == "spiky":
        rows **= 9
    elif kind == "one-hot":
        rows = np.eye(dimension)[random.integers(0, dimension, count)] * random.choice([-1, 1], (count, 1))
    elif kind == "one sign":
        rows = np.abs(rows) + 1
    elif kind == "tiny parts":
        rows *= 10.0 ** random.integers(-30, 1, rows.shape)
    return unit(rows)


def exceeded(kernel: Kernel, rows: np.ndarray, queries: np.ndarray) -> float:
    """By how much of its bound the worst score is off."""
    codes = coded(rows)
    asked = Queries(queries, kernel)
    values, constant, per_error = asked.score(codes)
    assert asked.kernel is kernel
    assert values.dtype == np.float32
    # Products of float32 numbers are exact in long double, and sums of them better than any bound here.
    truth = rows.astype(np.longdouble) @ queries.T.astype(np.longdouble)
    bound = constant + per_error * codes.errors.astype(np.float64)[:, None]
    return float((np.abs(values - truth) / bound).max())


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["normal", "spiky", "one-hot", "one sign", "tiny parts"]),
    st.sampled_from(["normal", "spiky", "one-hot", "one sign", "tiny parts", "rows"]),
    st.sampled_from([64, 128, 384]),
    st.sampled_from([1, 3, 5]),
    st.sampled_from([1, 7, 130]),
)
def test_scores_are_within_their_bound(
    kernel: Kernel, seed: int, kind: str, query_kind: str, dimension: int, m: int, n: int
) -> None:
    random = np.random.default_rng(seed)
    rows = tables(random, kind, n, dimension)
    if query_kind == "rows":
        queries = rows[random.integers(0, n, m)] * random.choice([-1, 1], (m, 1)).astype(np.float32)
    else:
        queries = tables(random, query_kind, m, dimension)
    assert exceeded(kernel, rows, queries) <= 1


@pytest.mark.parametrize(
    ("kernel", "dimension"),
    [(INTEGER, 2), (INTEGER, 17), (INTEGER, 100), (CONVERTED, 1), (CONVERTED, 17), (CONVERTED, 100)],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_any_dimension(kernel: Kernel, dimension: int) -> None:
    random = np.random.default_rng(dimension)
    rows = tables(random, "normal", 2100, dimension)
    assert exceeded(kernel, rows, tables(random, "normal", 3, dimension)) <= 1


def test_the_bound_is_tight_enough_to_be_of_use() -> None:
    random = np.random.default_rng(3)
    rows, queries = tables(random, "normal", 2000, 384), tables(random, "normal", 20, 384)
    for kernel, most in ((PACKED, 0.02), (INTEGER, 0.02), (CONVERTED, 0.01)):
        _, constant, per_error = Queries(queries, kernel).score(coded(rows))
        assert (constant + per_error * 0.0075).max() < most


@pytest.mark.parametrize(("kernel", "dimension"), [(PACKED, 100), (PACKED, 8), (INTEGER, 1)])
def test_operators_are_not_asked_for_dimensions_they_fail_on(kernel: Kernel, dimension: int) -> None:
    random = np.random.default_rng(4)
    rows, queries = tables(random, "normal", 300, dimension), tables(random, "normal", 1, dimension)
    asked = Queries(queries, kernel)
    values, *_ = asked.score(coded(rows))
    assert asked.kernel is CONVERTED
    np.testing.assert_allclose(values, rows @ queries.T, atol=0.02)


@pytest.mark.parametrize("many", [False, True])
def test_kernels_by_number_of_queries(many: bool) -> None:
    assert scans._chosen(384, many, True) in (PACKED, INTEGER, CONVERTED)
    assert scans._chosen(384, many, False) is CONVERTED


@pytest.mark.parametrize(("taken", "chosen"), [(3.9, PACKED), (4.1, CONVERTED), (float("inf"), CONVERTED)])
def test_a_slow_operator_is_not_used(monkeypatch: pytest.MonkeyPatch, taken: float, chosen: Kernel) -> None:
    monkeypatch.setattr(scans, "_seconds", lambda kernel, *_: taken if kernel is PACKED else 1.0)
    assert scans._chosen(128, False, True) is chosen


def test_a_slow_trial_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(scans.time, "thread_time", lambda: float(next(clock)))
    scans._chosen(128, False, True)
    assert next(clock) == 4


def test_a_wrong_operator_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(codes: Codes, operand: object) -> np.ndarray:
        values = PACKED.multiply(codes, operand)
        values[-1] += 0.02
        return values

    def short(codes: Codes, operand: object) -> np.ndarray:
        return INTEGER.multiply(codes, operand)[:-1]

    kernels = {False: PACKED._replace(multiply=wrong), True: INTEGER._replace(multiply=short)}
    monkeypatch.setattr(scans, "_PREFERRED", kernels)
    assert scans._chosen(128, False, True) is CONVERTED
    assert scans._chosen(128, True, True) is CONVERTED


def test_a_missing_operator_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch, "_int_mm")
    assert scans._chosen(100, True, True) is CONVERTED
    assert scans._chosen(100, False, True) is CONVERTED


def test_an_operator_that_fails_later_is_left() -> None:
    calls = []

    def fails(codes: Codes, operand: object) -> np.ndarray:
        calls.append(1)
        raise RuntimeError("no such kernel image")

    random = np.random.default_rng(6)
    rows, queries = tables(random, "normal", 50, 64), tables(random, "normal", 2, 64)
    asked = Queries(queries, PACKED._replace(multiply=fails))
    for _ in range(2):
        values, *_ = asked.score(coded(rows))
        np.testing.assert_allclose(values, rows @ queries.T, atol=0.02)
    assert len(calls) == 1


def test_an_error_of_numpy_is_not_hidden() -> None:
    def fails(*_: object) -> np.ndarray:
        raise MemoryError

    random = np.random.default_rng(6)
    rows, queries = tables(random, "normal", 50, 64), tables(random, "normal", 2, 64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scans, "CONVERTED", CONVERTED._replace(multiply=fails))
        with pytest.raises(MemoryError):
            Queries(queries, scans.CONVERTED).score(coded(rows))
        patch.setattr(scans, "CONVERTED", CONVERTED._replace(prepare=fails))
        with pytest.raises(MemoryError):
            Queries(queries, scans.CONVERTED).score(coded(rows))


def test_torch_is_not_imported() -> None:
    program = (
        "import sys, numpy as np\n"
        "from titan_nb.chat.codes import Codes, quantise\n"
        "from titan_nb.chat.scans import Queries\n"
        "rows = np.eye(64, dtype=np.float32)\n"
        "codes = Codes.empty(64, 64)\n"
        "quantise(rows, codes)\n"
        "asked = Queries(rows[:1])\n"
        "assert asked.score(codes)[0].argmax() == 0\n"
        "assert asked.kernel.name == 'converted'\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
