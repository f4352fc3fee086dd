"""Rows of numbers as codes of 8, 4 or 1 bits with one scale per row."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["BITS", "dequantise", "quantise"]

BITS = (8, 4, 1)
_LARGEST = {8: 127, 4: 7}


def quantise(rows: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the codes of float32 rows, and their scales; a code stands for code x scale of its row.

    8 and 4 bits: whole numbers from -127 to 127, or -7 to 7, with the row's largest absolute value over 127
    or 7 as its scale, so that no number is off by more than half a scale. 1 bit: the sign, with the mean
    absolute value as scale, which is nearest to the row among all scales.

    Args:
        rows: float32, shape (n, d), on any device.
        bits: 8, 4 or 1.

    Returns:
        The packed codes and the scales, float32, shape (n, 1). 8 bits: int8, shape (n, d). 4 bits: uint8,
        shape (n, ceil(d / 2)), code + 8 with the first number of two in the lower half. 1 bit: uint8, shape
        (n, ceil(d / 8)), 1 for numbers from 0 on, the first of eight in the lowest bit.
    """
    import torch

    if bits == 1:
        return _pack(rows >= 0, 1), rows.abs().mean(dim=1, keepdim=True)
    largest = _LARGEST[bits]
    scales = torch.linalg.vector_norm(rows, ord=float("inf"), dim=1, keepdim=True).div_(largest)
    # A row of zeros keeps the scale 0, and its codes must not be 0 / 0.
    codes = (rows / torch.where(scales > 0, scales, 1.0)).round_().clamp_(-largest, largest)
    return (codes.to(torch.int8) if bits == 8 else _pack(codes.add_(8), 4)), scales


def dequantise(codes: torch.Tensor, scales: torch.Tensor, bits: int, dimension: int) -> torch.Tensor:
    """Return the numbers that the codes of `quantise` stand for, float32, shape (n, dimension)."""
    import torch

    if bits == 8:
        values = codes.to(torch.float32)
    else:
        shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=codes.device)
        values = (codes[:, :, None] >> shifts & (1 << bits) - 1).flatten(1)[:, :dimension].to(torch.float32)
        values = values.sub_(8) if bits == 4 else values.mul_(2).sub_(1)
    return values.mul_(scales)


def _pack(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Put small numbers of ``bits`` bits side by side into bytes, the first into the lowest bits."""
    import torch

    per_byte = 8 // bits
    padded = torch.nn.functional.pad(values.to(torch.uint8), (0, -values.shape[1] % per_byte))
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=values.device)
    return (padded.unflatten(1, (-1, per_byte)) << shifts).sum(dim=2, dtype=torch.uint8)
