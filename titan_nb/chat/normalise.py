"""Rows of length one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from titan_nb.chat.device import own_rules
from titan_nb.errors import ChatError, ResourceError
from titan_nb.memory.chunks import chunks
from titan_nb.memory.shortage import is_shortage, resource_error

if TYPE_CHECKING:
    import torch

__all__ = ["normalise"]

# 32 MiB of float64: enough to keep a core or a GPU busy, little enough to leave no mark on a peak.
_BATCH_NUMBERS = 2**22
_WORK_BYTES_PER_NUMBER = 8


def _row_of_embeddings(number: int) -> str:
    return f"row {number}"


def normalise(
    rows: torch.Tensor,
    device: torch.device,
    batch_size: int | None = None,
    subject: Callable[[int], str] = _row_of_embeddings,
) -> torch.Tensor:
    """Divide each row by its Euclidean length, in float64 and batch by batch.

    A batch that does not fit into memory is halved, down to one row.

    Args:
        rows: Floating-point numbers, shape (n, d); not modified and not kept.
        device: Where the work is done and the result lives.
        batch_size: Rows per batch; by default as many as make 32 MiB of float64.
        subject: What row i is called in an error.

    Returns:
        A new float32 tensor of shape (n, d) whose rows have length 1 +- 1e-6.

    Raises:
        ChatError: If a row holds NaN or infinity, or is too close to zero to have a direction.
        ResourceError: If memory is short for the result, or for a batch of one row.
    """
    import torch

    count, dimension = rows.shape
    batch = batch_size or max(1, _BATCH_NUMBERS // dimension)
    with own_rules(device):
        try:
            unit = torch.empty((count, dimension), dtype=torch.float32, device=device)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            needed = count * dimension * torch.float32.itemsize
            raise resource_error(f"the result, {count} x {dimension} numbers,", needed, device) from error

        def fill(part: range) -> None:
            bad = _normalise_batch(rows[part.start : part.stop], unit[part.start : part.stop])
            if bad is not None:
                number, problem = bad
                raise ChatError(f"{subject(part.start + number)} {problem}")

        try:
            chunks(range(count), batch).map(fill)
        except ResourceError as error:
            needed = dimension * _WORK_BYTES_PER_NUMBER
            doing = f"normalising one row of {dimension} numbers"
            raise resource_error(doing, needed, device) from error.__cause__
    return unit


def _normalise_batch(rows: torch.Tensor, out: torch.Tensor) -> tuple[int, str] | None:
    """Fill ``out`` with the normalised ``rows``, or return the first bad row and what is wrong with it."""
    import torch

    # One copy, which the checks also look at: the input may change under us in another thread.
    work = rows.to(device=out.device, dtype=torch.float64, copy=True)
    peak = torch.linalg.vector_norm(work, ord=float("inf"), dim=1, keepdim=True)
    # Below its dtype's smallest normal number a value has lost digits, and with them the row its direction.
    # Half types are judged as float32, which holds all their values in full.
    tiny = torch.finfo(torch.float64 if rows.dtype == torch.float64 else torch.float32).tiny
    bad = ~(peak.isfinite() & (peak >= tiny)).squeeze(1)
    if bad.any():
        number = int(bad.nonzero()[0])
        value = float(peak[number])
        if value != value:
            return number, "holds NaN: leave such rows out, or repair them"
        if value == float("inf"):
            return number, "holds an infinite number: leave such rows out, or repair them"
        size = "is all zeros" if value == 0 else f"is as good as zero (largest value {value:.3g})"
        return number, f"{size} and has no direction: leave such rows out"
    # By the largest value first: squares of 1e200 would overflow, those of 1e-200 vanish.
    work.div_(peak)
    work.div_(torch.linalg.vector_norm(work, dim=1, keepdim=True))
    out.copy_(work)
    return None
