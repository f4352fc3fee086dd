"""Codes of 8, 4 and 1 bits: written out by hand, bounded, and packed without a loss."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.chat.quantise import BITS, dequantise, quantise


def test_codes_by_hand() -> None:
    rows = torch.tensor([[1.0, -0.6, 0.25], [0.0, 0.0, 0.0]])
    codes, scales = quantise(rows, 8)
    assert codes.tolist() == [[127, -76, 32], [0, 0, 0]]
    assert scales.tolist() == [[pytest.approx(1 / 127)], [0.0]]
    codes, scales = quantise(rows, 4)
    # 7 and -4 share a byte, then 2 alone; each with 8 added, the first in the lower half.
    assert codes.tolist() == [[15 | 4 << 4, 10], [8 | 8 << 4, 8]]
    codes, scales = quantise(torch.tensor([[1.0, -1.0, 3.0, 0.0, -2.0, 1.0, 1.0, 1.0, -5.0]]), 1)
    assert codes.tolist() == [[0b11101101, 0]]
    assert scales.tolist() == [[pytest.approx(15 / 9)]]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(BITS), st.integers(1, 40), st.integers(0, 2**32))
def test_packing_loses_nothing(bits: int, dimension: int, seed: int) -> None:
    rows = torch.randn(5, dimension, generator=torch.Generator().manual_seed(seed))
    codes, scales = quantise(rows, bits)
    values = dequantise(codes, scales, bits, dimension)
    assert codes.shape == (5, -(-dimension * bits // 8))
    assert (values.shape, values.dtype) == (rows.shape, torch.float32)
    if bits == 1:
        assert torch.equal(values, torch.where(rows >= 0, scales, -scales))
    else:
        largest = {8: 127, 4: 7}[bits]
        assert ((values - rows).abs() <= scales * (0.5 + 1e-5)).all()
        torch.testing.assert_close(values.abs().amax(dim=1), rows.abs().amax(dim=1))
        assert torch.equal(quantise(values, bits)[0], codes)
        torch.testing.assert_close(scales, rows.abs().amax(dim=1, keepdim=True) / largest)


def test_the_scale_of_signs_is_nearest_to_the_row() -> None:
    rows = torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    codes, scales = quantise(rows, 1)
    error = (dequantise(codes, scales, 1, 50) - rows).norm(dim=1)
    for factor in (0.99, 1.01):
        assert ((dequantise(codes, scales * factor, 1, 50) - rows).norm(dim=1) > error).all()
