"""Rows in half precision on a device: how far their scores can be off, on the host and on the fake GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.fakes.accelerator import install, uninstall
from titan_nb.chat import gpu
from titan_nb.chat.gpu import DeviceRows
from titan_nb.errors import ResourceError

MIB = 1 << 20
KINDS = [("cpu", torch.bfloat16), ("cpu", torch.float16), ("fakegpu", torch.float16)]

# Tiny numbers vanish in float16, and those just above a power of two lose most.
numbers = st.one_of(
    st.floats(-1, 1, width=32), st.sampled_from([1.0, -1.0, 1e-6, -3e-9, 1e-30, 1.00049, 0.3330078])
)


def unit(table: np.ndarray) -> np.ndarray:
    wide = table.astype(np.float64)
    wide[np.abs(wide).max(axis=1) < 1e-35, 0] = 1.0
    wide /= np.abs(wide).max(axis=1, keepdims=True)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    return wide.astype(np.float32)


def random_rows(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((count, dimension)))


@st.composite
def tables(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    dimension = draw(st.integers(1, 24))
    rows, queries = (
        draw(hnp.arrays(np.float32, (draw(st.integers(1, 9)), dimension), elements=numbers)) for _ in range(2)
    )
    return unit(rows), unit(queries)


@pytest.fixture(scope="module", autouse=True)
def device() -> Iterator[Any]:
    yield install(64 * MIB)
    uninstall()


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name, dtype = request.param
    monkeypatch.setattr(gpu, "_half", lambda _: dtype)
    return str(name)


def check(copy: DeviceRows, rows: np.ndarray, queries: np.ndarray) -> None:
    scores, bound = copy.scores(queries)
    assert scores.shape == (len(queries), len(rows))
    assert bound.shape == (1, len(rows))
    assert scores.dtype == bound.dtype == torch.float32
    assert scores.device == bound.device == torch.device(copy.device)
    true = queries.astype(np.float64) @ rows.astype(np.float64).T
    lower, upper = (scores - bound).cpu().numpy(), (scores + bound).cpu().numpy()
    assert (lower <= true).all()
    assert (true <= upper).all()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize(("name", "dtype"), KINDS)
def test_no_score_is_further_off_than_its_bound(name: str, dtype: torch.dtype, data: st.DataObject) -> None:
    rows, queries = data.draw(tables())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "_half", lambda _: dtype)
        check(DeviceRows(rows, name), rows, queries)


def test_the_bound_holds_and_is_of_use_in_many_dimensions(kind: str) -> None:
    rows = random_rows(3000, 768)
    # Near ties, rows with few large numbers, and rows whose sum only grows.
    rows[1000:1100] = unit(rows[:1] + 1e-4 * random_rows(100, 768, seed=1))
    rows[1100:1200] = unit(random_rows(100, 768, seed=2) ** 9)
    rows[1200:1300] = np.abs(rows[1200:1300])
    queries = np.concatenate((rows[:1], rows[1100:1103], rows[1200:1203], random_rows(9, 768, seed=3)))
    copy = DeviceRows(rows, kind)
    check(copy, rows, queries)
    half = 2.0**-8 if copy.scores(queries)[1].max() > 2e-3 else 2.0**-11
    assert copy.scores(queries)[1].max() < 2 * half


@pytest.mark.parametrize("rows", [np.eye(5), -np.eye(5), np.full((3, 4), 0.5)])
def test_what_halves_can_hold_is_bounded_by_the_sum_alone(kind: str, rows: np.ndarray) -> None:
    exact = rows.astype(np.float32)
    scores, bound = DeviceRows(exact, kind).scores(exact)
    assert np.array_equal(scores.cpu().numpy(), exact @ exact.T)
    assert 0 < bound.min() <= bound.max() < 1e-5


def test_rows_in_more_than_one_block(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = random_rows(50, 12)
    whole = DeviceRows(rows, kind).scores(rows)
    monkeypatch.setattr(gpu, "_BLOCK_BYTES", 4 * 12 * 7)
    parts = DeviceRows(rows, kind).scores(rows)
    check(DeviceRows(rows, kind), rows, rows)
    assert torch.equal(whole[1].cpu(), parts[1].cpu())


def test_it_grows_with_its_rows(kind: str) -> None:
    rows = random_rows(1000, 16)
    copy = DeviceRows(rows[:10], kind)
    assert copy.device_bytes == DeviceRows.bytes_needed(10, 16) == 10 * 36
    sizes = set()
    for count in range(10, 1001, 30):
        expected = copy.bytes_with(count)
        copy.extend(rows[:count])
        assert copy.count == count
        assert copy.device_bytes == expected
        sizes.add(expected)
    assert len(sizes) < 10  # doubling, not a copy for each addition
    check(copy, rows, rows[::100])
    copy.extend(rows[:3])
    assert copy.count == 1000


def test_a_search_meanwhile_sees_the_rows_that_were_there() -> None:
    rows = random_rows(40, 8)
    copy = DeviceRows(rows[:20], "cpu")
    held = copy._copy
    copy.extend(rows)
    assert torch.equal(held.halves, copy._copy.halves[:20])
    assert len(held.halves) == 20


def test_a_mapped_table_that_cannot_be_written(tmp_path: Path) -> None:
    rows = random_rows(30, 8)
    rows.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", np.float32, "r", shape=(30, 8))
    check(DeviceRows(mapped, "cpu"), rows, mapped[:2])


def test_a_full_device_leaves_all_as_it_was(device: Any) -> None:
    rows = random_rows(20_000, 64)
    copy = DeviceRows(rows[:1000], "fakegpu")
    before = [one.cpu() for one in copy.scores(rows[:3])]
    device.empty_cache()
    with (
        device.hold(device.mem_get_info(0)[0] - 2 * MIB),
        pytest.raises(ResourceError, match=r"memory is short on fakegpu:0: a copy of 19,000 rows") as caught,
    ):
        copy.extend(rows)
    assert caught.value.requested_bytes == copy.bytes_with(20_000)
    assert copy.count == 1000
    assert all(torch.equal(old, new.cpu()) for old, new in zip(before, copy.scores(rows[:3]), strict=True))
    copy.extend(rows)
    check(copy, rows, rows[:3])
    device.empty_cache()
    with device.hold(device.mem_get_info(0)[0]), pytest.raises(ResourceError, match="scoring 20,000 rows"):
        copy.scores(rows[:100])


def test_other_errors_of_the_device_are_not_taken_for_a_shortage(device: Any) -> None:
    rows = random_rows(10, 4)
    copy = DeviceRows(rows, "fakegpu")
    device.break_device()
    try:
        with pytest.raises(RuntimeError, match="fakegpu error"):
            copy.scores(rows)
        with pytest.raises(RuntimeError, match="fakegpu error"):
            copy.extend(random_rows(20, 4))
    finally:
        device.repair_device()
    assert copy.count == 10


def test_what_the_user_has_set_for_his_own_work_changes_nothing(kind: str) -> None:
    rows = random_rows(200, 32)
    expected = [one.cpu() for one in DeviceRows(rows, kind).scores(rows[:4])]
    precision = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        torch.set_default_dtype(torch.float64)
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            copy = DeviceRows(rows[:100], kind)
        with torch.autocast(torch.device(kind).type, dtype=torch.bfloat16):
            copy.extend(rows)
            found = copy.scores(rows[:4])
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision(precision)
    assert all(torch.equal(old, new.cpu()) for old, new in zip(expected, found, strict=True))
    assert not any(one.is_inference() or one.requires_grad for one in found)


def test_the_type_of_the_halves_is_what_the_device_multiplies_unharmed() -> None:
    kinds = {name: gpu._half(torch.device(name)) for name in ("cuda", "mps", "xpu", "cpu", "fakegpu")}
    assert kinds == {
        "cuda": torch.float16,
        "mps": torch.float16,
        **dict.fromkeys(("xpu", "cpu", "fakegpu"), torch.bfloat16),
    }
