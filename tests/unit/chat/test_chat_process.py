"""Normalising: exact lengths, any scale, any batch, and an honest error when memory is short."""

from __future__ import annotations

import gc
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.fakes.accelerator import install, uninstall
from titan_nb.chat import normalise as normalise_module
from titan_nb.chat import process_embeddings
from titan_nb.errors import ChatError, ResourceError, SettingsError
from titan_nb.memory import shortage
from titan_nb.memory.accelerator import Accelerator


def lengths(table: torch.Tensor) -> np.ndarray:
    return np.linalg.norm(table.numpy().astype(np.float64), axis=1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_rows_get_length_one(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    table = torch.randn(1000, 384).to(dtype)
    unit = process_embeddings(table)
    assert (unit.shape, unit.dtype, unit.device.type) == (table.shape, torch.float32, "cpu")
    np.testing.assert_allclose(lengths(unit), 1.0, atol=1e-6, rtol=0)
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(1000), atol=1e-6, rtol=0)
    direction = table.double() / table.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit.double(), direction, atol=1e-7, rtol=0)


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(
        np.float64,
        st.tuples(st.integers(1, 8), st.integers(1, 20)),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_every_finite_row_gets_length_one_or_is_refused(table: np.ndarray) -> None:
    good = np.abs(table).max(axis=1) >= np.finfo(np.float64).tiny
    if good.all():
        np.testing.assert_allclose(lengths(process_embeddings(table)), 1.0, atol=1e-6, rtol=0)
    else:
        with pytest.raises(ChatError, match=f"^row {int(np.argmin(good))} is "):
            process_embeddings(table)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (6e4, torch.float16),
        (6e-8, torch.float16),
        (1e30, torch.float32),
        (3e38, torch.float32),
        (1.2e-38, torch.float32),
        (1e38, torch.bfloat16),
        (1e308, torch.float64),
        (1e-307, torch.float64),
    ],
)
def test_neither_squares_that_overflow_nor_squares_that_vanish_matter(
    value: float, dtype: torch.dtype
) -> None:
    table = torch.full((3, 100), value, dtype=torch.float64).to(dtype)
    torch.testing.assert_close(process_embeddings(table), torch.full((3, 100), 0.1))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 100])
def test_the_batch_size_does_not_change_the_result(batch_size: int) -> None:
    table = torch.arange(1.0, 29.0).reshape(7, 4)
    expected = table / table.norm(dim=1, keepdim=True)
    torch.testing.assert_close(process_embeddings(table, {"batch_size": batch_size}), expected)
    table[5, 1] = float("nan")
    with pytest.raises(ChatError, match="row 5 holds NaN"):
        process_embeddings(table, {"batch_size": batch_size})


@pytest.mark.parametrize("options", [None, {}, {"batch_size": None, "device": None}, {"device": "cpu"}])
def test_options_may_be_left_out(options: dict[str, object] | None) -> None:
    assert process_embeddings([[3.0, 4.0]], options).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batchsize": 3}, "unknown option 'batchsize'; did you mean 'batch_size'"),
        ({"devcie": "cpu"}, "unknown option 'devcie'; did you mean 'device'"),
        ({7: 3}, "unknown option 7; did you mean"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": -1}, "batch_size is -1"),
        ({"batch_size": True}, "batch_size is True"),
        ({"batch_size": 2.0}, r"batch_size is 2\.0"),
        ({"device": "meta"}, "device 'meta'"),
        ({"device": "nowhere"}, "device 'nowhere' cannot be used here"),
        ([("batch_size", 3)], "options is a list"),
        ({"dimension_reduction": 0}, "dimension_reduction is 0: give a whole number of numbers per row"),
        ({"dimension_reduction": 2.5}, "dimension_reduction is 2"),
        ({"quantization": 1}, "quantization is 1: give True or False"),
        ({"quantization_bits": 2}, "quantization_bits is 2: give 8, 4 or 1"),
        ({"quantization_bits": True}, "quantization_bits is True"),
        ({"precision": "float8"}, "precision is 'float8': give one of float32, float16, bfloat16"),
    ],
)
def test_bad_options_are_refused(options: object, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        process_embeddings(torch.ones(2, 2), options)  # type: ignore[arg-type]


def test_texts_are_not_embeddings() -> None:
    with pytest.raises(ChatError, match="row 0 comes as str"):
        process_embeddings(["a", "b"])


class Scarce:
    """The careful way of normalising, with memory for a few rows only."""

    def __init__(self, most_rows: int, error: Exception) -> None:
        self.most_rows = most_rows
        self.error = error
        self.sizes: list[int] = []
        self._plain = normalise_module._normalise_carefully

    def __call__(
        self, rows: torch.Tensor, device: torch.device
    ) -> tuple[torch.Tensor, tuple[int, str] | None]:
        self.sizes.append(len(rows))
        if len(rows) > self.most_rows:
            raise self.error
        # Some tests only say that they are on a GPU.
        return self._plain(rows, rows.device)


SHORTAGES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA error: out of memory"),
    MemoryError(),
]


@pytest.mark.parametrize("error", SHORTAGES, ids=["cuda", "cpu", "driver", "python"])
def test_a_batch_that_does_not_fit_is_halved(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.arange(1.0, 61.0, dtype=torch.float64).reshape(20, 3)
    expected = process_embeddings(table)
    scarce = Scarce(3, error)
    monkeypatch.setattr(normalise_module, "_normalise_carefully", scarce)
    assert torch.equal(process_embeddings(table, {"batch_size": 16}), expected)
    assert scarce.sizes == [16, 8, 4, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("error", SHORTAGES, ids=["cuda", "cpu", "driver", "python"])
def test_too_little_memory_for_one_row(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    scarce = Scarce(0, error)
    monkeypatch.setattr(normalise_module, "_normalise_carefully", scarce)
    with pytest.raises(ResourceError, match="memory is short on cpu: normalising one row of 3") as raised:
        process_embeddings(torch.ones(20, 3).double())
    assert scarce.sizes == [20, 10, 5, 2, 1]
    assert raised.value.requested_bytes == 3 * 8
    assert raised.value.available_bytes is not None
    assert raised.value.available_bytes > 0
    assert raised.value.device == "cpu"


def test_too_little_memory_for_the_result() -> None:
    huge = torch.ones(1, dtype=torch.float16).expand(10**9, 10**6)
    with pytest.raises(ResourceError, match="the result") as raised:
        process_embeddings(huge)
    assert raised.value.requested_bytes == 4 * 10**15
    assert isinstance(raised.value.__cause__, RuntimeError)


def test_other_errors_of_torch_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalise_module, "_normalise_carefully", Scarce(0, RuntimeError("something else")))
    with pytest.raises(RuntimeError, match="something else"):
        process_embeddings(torch.ones(2, 3).double())

    def broken(*_sizes: object, **_options: object) -> torch.Tensor:
        raise RuntimeError("another thing")

    monkeypatch.setattr(torch, "empty", broken)
    with pytest.raises(RuntimeError, match="another thing"):
        normalise_module.normalise(torch.ones(2, 3), torch.device("cpu"))


class TestShortageOnOtherDevices:
    def test_a_gpu_says_what_is_free(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (4096, 8192))
        error = shortage.resource_error("storing", 10**10, torch.device("cuda", 0))
        assert (error.requested_bytes, error.available_bytes, error.device) == (10**10, 4096, "cuda:0")
        assert "storing needs 10,000,000,000 bytes, 4,096 are available" in str(error)

    def test_elsewhere_it_is_unknown(self) -> None:
        error = shortage.resource_error("storing", 8, torch.device("xpu", 0))
        assert error.available_bytes is None
        assert "how many are available is unknown" in str(error)

    def test_an_unrelated_error_is_no_shortage(self) -> None:
        assert not shortage.is_shortage(ValueError("DefaultCPUAllocator"))


class TestWhere:
    def test_cuda_is_used_where_it_already_is(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from titan_nb.chat import process

        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
        assert process.default_device() == "cuda:1"

    def test_apples_gpu_has_no_float64(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from titan_nb.chat import process

        monkeypatch.setattr(process, "accelerator", lambda: Accelerator("mps", None))
        assert process.default_device() == "cpu"

    def test_cuda_is_never_initialised(self, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = itertools.count()
        monkeypatch.setattr(torch.cuda, "init", lambda: next(calls))
        monkeypatch.setattr(torch.cuda, "_lazy_init", lambda: next(calls))
        assert process_embeddings(torch.ones(2, 3)).device.type == "cpu"
        assert next(calls) == 0


def test_a_full_gpu_is_emptied_of_its_cache_once_per_halving(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told with a host tensor that claims to be on a GPU, because most machines have none."""
    emptied = itertools.count()
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: next(emptied))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(normalise_module, "own_rules", lambda _device: torch.no_grad())
    plain = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, dtype, device: plain(*size, dtype=dtype))
    scarce = Scarce(2, torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(normalise_module, "_normalise_carefully", scarce)
    normalise_module.normalise(torch.ones(8, 3).double(), torch.device("cuda", 0))
    assert scarce.sizes == [8, 4, 2, 2, 2, 2]
    assert next(emptied) == 2


def test_on_any_accelerator_the_result_is_that_of_the_host() -> None:
    gc.collect()
    install(64 << 20)
    try:
        held = torch.ones(1, device="fakegpu")
        table = torch.randn(500, 384)
        there = process_embeddings(table)
        assert there.device.type == "fakegpu"
        torch.testing.assert_close(there.cpu(), process_embeddings(table, {"device": "cpu"}), rtol=0, atol=0)
        del there, held
    finally:
        uninstall()


def test_float32_rows_keep_length_one_where_plain_sums_of_squares_do_not() -> None:
    """Equal numbers round the same way at each addition; small ones vanish beside large ones."""
    for dimension in (1, 7, 160, 161, 384, 1000, 2048, 10_007):
        constants = torch.linspace(1, 2, 97)[:, None].expand(97, dimension)
        lopsided = torch.full((1, dimension), 2.4e-4)
        lopsided[0, ::160] = 1.0
        for table in (constants, lopsided, torch.cat([constants, lopsided])):
            np.testing.assert_allclose(lengths(process_embeddings(table)), 1.0, atol=1e-6, rtol=0)


@pytest.mark.parametrize("layout", ["rows", "columns", "every other"])
def test_rows_that_float32_cannot_square_are_done_with_care_among_the_others(layout: str) -> None:
    torch.manual_seed(1)
    table = torch.randn(50, 200)
    table[[3, 17]] *= torch.tensor([[1e30], [1e-30]])
    table[30, 0], table[31, 1] = 3e38, 1e25
    laid = {
        "rows": table,
        "columns": table.T.contiguous().T,
        "every other": table.repeat_interleave(2, dim=1)[:, ::2],
    }[layout]
    before = laid.clone()
    unit = process_embeddings(laid)
    exact = table.double() / table.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(unit.double(), exact, atol=1.5e-7, rtol=0)
    assert torch.equal(laid, before)
    table[40] = 0
    table[45, 7] = float("nan")
    with pytest.raises(ChatError, match="row 40 is all zeros"):
        process_embeddings(table)


def test_a_shortage_of_the_fast_way_leads_to_the_careful_one(monkeypatch: pytest.MonkeyPatch) -> None:
    table = torch.arange(1.0, 61.0).reshape(20, 3)

    def short(*_: object) -> None:
        raise SHORTAGES[1]

    monkeypatch.setattr(normalise_module, "_normalise_batch", short)
    torch.testing.assert_close(process_embeddings(table), table / table.norm(dim=1, keepdim=True))

    def broken(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(normalise_module, "_normalise_batch", broken)
    with pytest.raises(RuntimeError, match="something else"):
        process_embeddings(table)


@pytest.mark.parametrize(("precision", "step"), [("float16", 2**-11), ("bfloat16", 2**-8)])
def test_precision(precision: str, step: float) -> None:
    table = torch.randn(30, 64)
    rounded = process_embeddings(table, {"precision": precision})
    assert rounded.dtype == getattr(torch, precision)
    torch.testing.assert_close(rounded.float(), process_embeddings(table), atol=1e-7, rtol=step)


@pytest.mark.parametrize(("bits", "largest"), [(8, 127), (4, 7)])
def test_quantised_rows_are_the_numbers_that_the_codes_stand_for(bits: int, largest: int) -> None:
    table = torch.randn(20, 33)
    quantised = process_embeddings(table, {"quantization": True, "quantization_bits": bits})
    unit = process_embeddings(table)
    scales = unit.abs().amax(dim=1, keepdim=True) / largest
    assert quantised.dtype == torch.float32
    assert ((quantised - unit).abs() <= scales / 2 + 1e-7).all()
    codes = quantised / scales
    torch.testing.assert_close(codes, codes.round(), atol=1e-4, rtol=0)
    assert not torch.equal(quantised, unit)


def test_fewer_dimensions_of_length_one() -> None:
    torch.manual_seed(0)
    table = torch.randn(40, 3) @ torch.randn(3, 30) + 5
    reduced = process_embeddings(table, {"dimension_reduction": 3, "batch_size": 7})
    assert reduced.shape == (40, 3)
    np.testing.assert_allclose(lengths(reduced), 1.0, atol=1e-6, rtol=0)
    with pytest.raises(ChatError, match="there are 2 rows to fit it to"):
        process_embeddings(table[:2], {"dimension_reduction": 3})


def test_a_shortage_in_a_later_step_is_a_resource_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from titan_nb.chat import process

    def short(*_: object) -> None:
        raise SHORTAGES[1]

    monkeypatch.setattr(process, "quantise", short)
    with pytest.raises(ResourceError, match="processing 2 x 3 numbers") as raised:
        process_embeddings(torch.ones(2, 3), {"quantization": True})
    assert (raised.value.requested_bytes, raised.value.device) == (24, "cpu")

    def broken(*_: object) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(process, "quantise", broken)
    with pytest.raises(RuntimeError, match="something else"):
        process_embeddings(torch.ones(2, 3), {"quantization": True})


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    table = torch.randn(50_000, 384, device="cuda")
    unit = process_embeddings(table)
    assert unit.device == table.device
    np.testing.assert_allclose(lengths(unit.cpu()), 1.0, atol=1e-6, rtol=0)
    torch.testing.assert_close(unit.cpu(), process_embeddings(table, {"device": "cpu"}))
    assert process_embeddings(table.cpu()).is_cuda
