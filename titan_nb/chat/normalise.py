"""Rows of length one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from titan_nb.chat.device import own_rules
from titan_nb.chat.rows import is_tensor, read_row, read_table
from titan_nb.errors import ChatError, ResourceError
from titan_nb.memory.shortage import is_shortage, resource_error

if TYPE_CHECKING:
    import numpy as np
    import torch

    from titan_nb.chat.rows import Numbers

__all__ = ["normalise", "unit_query", "unit_rows"]

# 2 MiB of float64 leave no mark on a peak.
_CAREFUL_NUMBERS = 2**18
_WORK_BYTES_PER_NUMBER = 8
# Between these lengths no square that matters overflows or vanishes in float32, up to 10^10 numbers a row.
_SHORT, _LONG = 1e-9, 1e18
# Between these no square that matters overflows or vanishes in float64, and no row of float32 is subnormal.
_SMALL, _LARGE = 1e-60, 1e300
# Torch adds up squares in 8 lanes or more, one after another. With (w / 8 + 7) roundings of 2^-24 in a sum
# of w squares, and one each for root, reciprocal and product, rows have length 1 +- (w / 16 + 6.5) x 2^-24,
# below 1e-6 up to w = 160; longer rows are summed in pieces, and the pieces in float64.
_PIECE = 160


def normalise(
    rows: torch.Tensor,
    device: torch.device,
    batch_size: int | None = None,
    subject: Callable[[int], str] = "row {}".format,
) -> torch.Tensor:
    """Divide each row by its Euclidean length, batch by batch.

    In float32 where that is exact enough; in float64 for rows in float64, and for those whose squares
    overflow or vanish. Where memory is short, batches are halved, down to one row.

    Args:
        rows: Floating-point numbers, shape (n, d); not modified and not kept.
        device: Where the work is done and the result lives.
        batch_size: Rows per batch; by default as many as suit the device.
        subject: What row i is called in an error.

    Returns:
        A new float32 tensor of shape (n, d) whose rows have length 1 +- 1e-6.

    Raises:
        ChatError: If a row holds NaN or infinity, or is too close to zero to have a direction.
        ResourceError: If memory is short for the result, or for a batch of one row.
    """
    import torch

    from titan_nb.memory.chunks import chunks

    count, dimension = rows.shape
    with own_rules(device):
        try:
            unit = torch.empty((count, dimension), dtype=torch.float32, device=device)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            needed = count * dimension * torch.float32.itemsize
            raise resource_error(f"the result, {count} x {dimension} numbers,", needed, device) from error
        left = _normalise_fast(rows, unit, batch_size)

        def fill(part: range | torch.Tensor) -> None:
            here = slice(part.start, part.stop) if isinstance(part, range) else part
            done, bad = _normalise_carefully(rows[here], device)
            if bad is not None:
                raise ChatError(f"{subject(int(part[bad[0]]))} {bad[1]}")
            unit[here] = done.float()

        try:
            if len(left):
                chunks(left, batch_size or max(1, _CAREFUL_NUMBERS // dimension)).map(fill)
        except ResourceError as error:
            needed = dimension * _WORK_BYTES_PER_NUMBER
            doing = f"normalising one row of {dimension} numbers"
            raise resource_error(doing, needed, device) from error.__cause__
    return unit


def unit_rows(embeddings: Any, *, subject: Callable[[int], str] = "row {}".format) -> np.ndarray:
    """Return ``embeddings`` as unit rows on the host, in memory of their own.

    Computed in float64 and rounded once. Torch is imported for its own tensors only.

    Args:
        embeddings: What `titan_nb.chat.rows.read_table` takes: tensors, arrays, lists of rows.
        subject: What row i is called in an error about its values.

    Returns:
        float32, shape (n, d), C order.

    Raises:
        ChatError: If it is no table of floating-point numbers, or a row holds NaN or infinity, or is too
            close to zero to have a direction.
        ResourceError: If memory is short.
    """
    return _unit(read_table(embeddings), subject)


def unit_query(query: Any, *, noun: str = "query") -> tuple[np.ndarray, bool]:
    """Return the unit rows of one query or a table of them, as `unit_rows` does, and whether it is one.

    Args:
        query: One row of shape (d,), or a table of shape (m, d).
        noun: What it is called in an error: ``the query``, or ``query 3`` in a table.

    Returns:
        float32, shape (1, d) or (m, d), and True for one row.

    Raises:
        ChatError: If it is neither, or has values that cannot be used.
        ResourceError: If memory is short.
    """
    if _is_table(query):
        return _unit(read_table(query, noun), lambda number: f"{noun} {number}"), False
    row = read_row(query, f"the {noun}")
    return _unit(row[None, :], lambda _: f"the {noun}"), True


def _is_table(query: Any) -> bool:
    if isinstance(query, (list, tuple)) and query:
        return isinstance(query[0], (list, tuple)) or getattr(query[0], "ndim", 0) == 1
    return getattr(query, "ndim", 1) == 2


def _unit(table: Numbers, subject: Callable[[int], str]) -> np.ndarray:
    import numpy as np

    count, dimension = table.shape
    try:
        rows = _on_the_host(table)
        single = _unit_row(rows) if count == 1 else None
        if single is not None:
            return single
        step = max(1, _CAREFUL_NUMBERS // dimension)
        # Squares that overflow are seen to, and the user may have asked NumPy to raise at any.
        with np.errstate(all="ignore"):
            if count <= step:
                return _unit_batch(rows, 0, subject)
            unit: np.ndarray = np.empty((count, dimension), np.float32)
            for start in range(0, count, step):
                unit[start : start + step] = _unit_batch(rows[start : start + step], start, subject)
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
        doing = f"a table of {count} x {dimension} numbers"
        raise resource_error(doing, count * dimension * 4, "cpu") from error
    return unit


def _unit_row(rows: np.ndarray) -> np.ndarray | None:
    """Return what `_unit_batch` does with an everyday row, shape (1, d), in half the time, or None."""
    import numpy as np

    if rows.dtype.itemsize == 8:
        return None  # Its square may overflow, and NumPy would warn.
    try:
        work = rows.astype(np.float64, order="C")
        square = float(work[0].dot(work[0]))
        if _SMALL < square < _LARGE:
            work *= 1.0 / math.sqrt(square)
            return work.astype(np.float32)
    except FloatingPointError:
        pass  # The user has asked NumPy to raise, and the row holds a signalling NaN.
    return None


def _unit_batch(rows: np.ndarray, first: int, subject: Callable[[int], str]) -> np.ndarray:
    import numpy as np

    # One copy, which the checks also look at: the input may change under us in another thread.
    work = rows.astype(np.float64, order="C")
    squares = _squares(work)
    if not all(_SMALL < square < _LARGE for square in squares.ravel().tolist()):
        peaks = np.abs(work).max(axis=1)
        least = np.finfo(np.float64 if rows.dtype.itemsize == 8 else np.float32).tiny
        bad = ~((peaks >= least) & (peaks < np.inf))
        if bad.any():
            number = int(bad.argmax())
            raise ChatError(f"{subject(first + number)} {_problem(float(peaks[number]))}")
        # By the largest value first: squares of 1e200 would overflow, those of 1e-200 vanish.
        work /= peaks[:, None]
        squares = _squares(work)
    work *= 1.0 / np.sqrt(squares)
    return work.astype(np.float32)


def _squares(work: np.ndarray) -> np.ndarray:
    """Return the squared lengths, shape (n, 1), each added up in the same order whatever n is."""
    import numpy as np

    squares: np.ndarray = np.matmul(work[:, None, :], work[:, :, None])[:, 0]
    return squares


def _on_the_host(table: Numbers) -> np.ndarray:
    if not is_tensor(table):
        return table
    import torch

    tensor: torch.Tensor = table
    plain = tensor.detach().as_subclass(torch.Tensor).cpu().resolve_conj().resolve_neg()
    # NumPy has no bfloat16.
    array: np.ndarray = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return array


def _normalise_fast(rows: torch.Tensor, unit: torch.Tensor, batch_size: int | None) -> range | torch.Tensor:
    """Fill ``unit`` in float32, and return the numbers of the rows that need another look."""
    import torch

    count = len(rows)
    everything, nothing = range(count), range(0)
    if rows.dtype == torch.float64 or count == 0:
        return everything
    # All at once unless asked otherwise: each step of a batch makes the threads of torch wait for each other.
    batch = batch_size or count
    try:
        lengths = torch.empty((count, 1), dtype=torch.float32, device=unit.device)
        for start in range(0, count, batch):
            here = slice(start, start + batch)
            _normalise_batch(rows[here], unit[here], lengths[here])
        shortest, longest = map(float, lengths.aminmax())
        if shortest > _SHORT and longest < _LONG:
            return nothing
        # NaN is between no two numbers.
        return (~((lengths > _SHORT) & (lengths < _LONG))).squeeze(1).nonzero().squeeze(1).cpu()
    except (RuntimeError, MemoryError) as error:
        if not is_shortage(error):
            raise
    return everything


def _normalise_batch(rows: torch.Tensor, out: torch.Tensor, lengths: torch.Tensor) -> None:
    """Fill ``out`` with ``rows`` over their lengths, in float32, and ``lengths`` with these."""
    import torch

    if rows.dtype != torch.float32 or rows.device != out.device or rows.stride(1) != 1:
        rows = out.copy_(rows)
    norm = torch.linalg.vector_norm
    dimension = rows.shape[1]
    if dimension <= _PIECE:
        found = norm(rows, dim=1, keepdim=True).double()
    else:
        width = next((w for w in range(_PIECE, _PIECE // 2, -1) if dimension % w == 0), _PIECE)
        whole = dimension // width * width
        pieces = norm(rows[:, :whole].unflatten(1, (-1, width)), dim=2)
        found = norm(pieces.double(), dim=1, keepdim=True)
        if whole < dimension:
            found.hypot_(norm(rows[:, whole:], dim=1, keepdim=True).double())
    lengths.copy_(found)
    torch.mul(rows, found.reciprocal_().float(), out=out)


def _normalise_carefully(
    rows: torch.Tensor, device: torch.device
) -> tuple[torch.Tensor, tuple[int, str] | None]:
    """Return the normalised ``rows`` in float64, and the first bad row with what is wrong with it."""
    import torch

    # One copy, which the checks also look at: the input may change under us in another thread.
    work = rows.to(device=device, dtype=torch.float64, copy=True)
    peak = torch.linalg.vector_norm(work, ord=float("inf"), dim=1, keepdim=True)
    # Below its dtype's smallest normal number a value has lost digits, and with them the row its direction.
    # Half types are judged as float32, which holds all their values in full.
    tiny = torch.finfo(torch.float64 if rows.dtype == torch.float64 else torch.float32).tiny
    bad = ~(peak.isfinite() & (peak >= tiny)).squeeze(1)
    if bad.any():
        number = int(bad.nonzero()[0])
        return work, (number, _problem(float(peak[number])))
    # By the largest value first: squares of 1e200 would overflow, those of 1e-200 vanish.
    work.div_(peak)
    return work.div_(torch.linalg.vector_norm(work, dim=1, keepdim=True)), None


def _problem(peak: float) -> str:
    """Say what is wrong with a row whose largest value this is."""
    if peak != peak:
        return "holds NaN: leave such rows out, or repair them"
    if peak == float("inf"):
        return "holds an infinite number: leave such rows out, or repair them"
    size = "is all zeros" if peak == 0 else f"is as good as zero (largest value {peak:.3g})"
    return f"{size} and has no direction: leave such rows out"
