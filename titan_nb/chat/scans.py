"""The kernels that read codes; those that are not public are tried before they are used."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from titan_nb.chat.codes import LENGTH, Codes

if TYPE_CHECKING:
    import numpy as np

__all__ = ["CONVERTED", "INTEGER", "PACKED", "Kernel", "Operand", "Queries"]

# From as many queries on, the kernel for batches is used.
_MANY_QUERIES = 4
_BATCH_ROWS = 2048
# More at a time, because torch may share the work among threads, which has a price.
_INTEGER_ROWS = 16384
# Some builds of the packed operator read 16 numbers at a time without a look at the end, and crash.
_PACKED_MULTIPLE = 64
_TRIAL_ROWS = 8195
_TRIAL_QUERIES = 16
_TRIAL_ROUNDS = 5
_SLOW_SECONDS = 0.02
# Of a bfloat16 result, however it was rounded; to nearest, it would be half.
_BFLOAT16 = 1.02 * 2.0**-8
_TINY = 2.0**-100


class Operand(NamedTuple):
    """Queries as a kernel takes them.

    Attributes:
        operand: What the kernel multiplies with.
        used: The numbers that stands for, float64 (m, d).
        relative: What rounding the result takes from it at most, relative to |query| |row|.
    """

    operand: Any
    used: np.ndarray
    relative: float


class Kernel(NamedTuple):
    """One way to multiply coded rows with queries.

    Attributes:
        name: What it is called.
        prepare: Returns the operand for queries, float32 (m, d).
        multiply: Returns the scores, float32 (n, m), of codes and an operand.
    """

    name: str
    prepare: Callable[[np.ndarray], Operand]
    multiply: Callable[[Codes, Any], np.ndarray]


class Queries:
    """Queries, and the kernel that scores coded rows for them.

    Args:
        rows: float32 (m, d), C order.
        kernel: The kernel to use; None for the best.

    Attributes:
        rows: The same.
        lengths: At least the lengths of the queries, float64 (m,).
        kernel: The kernel in use; None before the first score.
    """

    def __init__(self, rows: np.ndarray, kernel: Kernel | None = None) -> None:
        import numpy as np

        self.rows = rows
        exact = rows.astype(np.float64)
        # A little longer than float64 says.
        self.lengths = np.sqrt((exact * exact).sum(axis=1)) * (1 + 1e-12)
        self.kernel = kernel
        self._multiply: Callable[[Codes, Any], np.ndarray] = _multiply_converted
        self._operand: Any = None
        self._constant = self._per_error = self.lengths

    def score(self, codes: Codes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Score coded rows.

        With the row x = y + r, where y = scale * values is what the codes stand for and |r| <= e its error,
        the query q, the query p that the kernel uses in its place, and the result s,

            |q.x - s| <= |q.r| + |(q - p).y| + |p.y - s|
                      <= |q| e + |q - p| |y| + ((d + 8) 2^-23 + f) |p| |y| + 2^-100

        and |y| <= |x| + e <= 1.001 + e. The third term bounds d products and sums in float32, in any order,
        and products with the scale and with a weight of the row, with twice the unit roundoff of 2^-24
        (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), because the sum of
        all |p_j y_j| is at most |p| |y|; sums of integers are exact. f is 1.02 2^-8 where the result is
        rounded to bfloat16, else 0. The last term is for products so small that they vanish.

        Returns:
            The scores, float32 (n, m), and two arrays, float64 (m,): the score of row i is within
            constant + per_error * errors[i] of the true one.
        """
        if self._operand is None:
            self._use(self.kernel or _chosen(self.rows.shape[1], len(self.rows) >= _MANY_QUERIES, _torch()))
        try:
            values = self._multiply(codes, self._operand)
        # A tensor-faking or tracing mode of the calling cell may be on; NumPy knows none of them.
        except Exception:
            if self.kernel is CONVERTED:
                raise
            self._use(CONVERTED)
            values = CONVERTED.multiply(codes, self._operand)
        return values, self._constant, self._per_error

    def _use(self, kernel: Kernel) -> None:
        import numpy as np

        try:
            operand, used, relative = kernel.prepare(self.rows)
        except Exception:
            if kernel is CONVERTED:
                raise
            self._use(CONVERTED)
            return
        away = np.sqrt(((self.rows - used) ** 2).sum(axis=1)) * (1 + 1e-12)
        lost = away + (self.lengths + away) * ((self.rows.shape[1] + 8) * 2.0**-23 + relative)
        self.kernel, self._multiply, self._operand = kernel, kernel.multiply, operand
        self._constant, self._per_error = LENGTH * lost + _TINY, self.lengths + lost


def _prepare_packed(queries: np.ndarray) -> Operand:
    import torch

    if queries.shape[1] % _PACKED_MULTIPLE:
        raise ValueError("the operator would read beyond the rows")
    halves = torch.from_numpy(queries).to(torch.bfloat16)
    return Operand(halves, halves.double().numpy(), _BFLOAT16)


def _multiply_packed(codes: Codes, halves: Any) -> np.ndarray:
    import numpy as np
    import torch

    scales = torch.from_numpy(codes.scales.view(np.int16)).view(torch.bfloat16)
    product = torch.ops.aten._weight_int8pack_mm(halves, torch.from_numpy(codes.values), scales)
    values: np.ndarray = product.float().numpy().T
    return values


def _prepare_integer(queries: np.ndarray) -> Operand:
    import numpy as np
    import torch

    if queries.shape[1] == 1:
        raise ValueError("the operator misreads columns of one number")
    scale = np.maximum(np.abs(queries).max(axis=1, keepdims=True) / np.float32(127), np.float32(_TINY))
    whole = np.rint(queries / scale).clip(-127, 127)
    operand = torch.from_numpy(whole.astype(np.int8)).t(), scale[:, 0]
    return Operand(operand, whole.astype(np.float64) * scale.astype(np.float64), 0.0)


def _multiply_integer(codes: Codes, operand: Any) -> np.ndarray:
    import numpy as np
    import torch

    right, scale = operand
    left, scales = torch.from_numpy(codes.values), codes.float_scales()[:, None]
    values = np.empty((len(scales), len(scale)), dtype=np.float32)
    for first in range(0, len(scales), _INTEGER_ROWS):
        part = slice(first, first + _INTEGER_ROWS)
        product = torch._int_mm(left[part], right).numpy()
        np.multiply(product, scales[part] * scale, out=values[part], casting="unsafe", dtype=np.float32)
    return values


def _prepare_converted(queries: np.ndarray) -> Operand:
    import numpy as np

    return Operand(np.ascontiguousarray(queries.T), queries.astype(np.float64), 0.0)


def _multiply_converted(codes: Codes, turned: Any) -> np.ndarray:
    import numpy as np

    count, dimension = codes.values.shape
    values = np.empty((count, turned.shape[1]), dtype=np.float32)
    room = np.empty((min(_BATCH_ROWS, count), dimension), dtype=np.float32)
    for first in range(0, count, _BATCH_ROWS):
        part = slice(first, min(first + _BATCH_ROWS, count))
        block = room[: part.stop - part.start]
        np.copyto(block, codes.values[part])
        np.matmul(block, turned, out=values[part])
    values *= codes.float_scales()[:, None]
    return values


PACKED = Kernel("packed", _prepare_packed, _multiply_packed)
"""Int8 rows by bfloat16 queries: torch's private operator for quantised language models."""

INTEGER = Kernel("integer", _prepare_integer, _multiply_integer)
"""Int8 rows by int8 queries: torch's private product of matrices, which is very slow on some processors."""

CONVERTED = Kernel("converted", _prepare_converted, _multiply_converted)
"""Codes converted to float32, a cache full at a time: NumPy alone, on any processor."""

# By whether there are many queries. A trial reads from a cache, and memory is slower: only a kernel that is
# far slower than NumPy there is passed over.
_PREFERRED = {False: PACKED, True: INTEGER}
_FAR_SLOWER = 4


def _torch() -> bool:
    return sys.modules.get("torch") is not None


@functools.lru_cache(maxsize=64)
def _chosen(dimension: int, many: bool, with_torch: bool) -> Kernel:
    """Return the preferred kernel if its results are right here, and it is not slow; else the one of NumPy.

    A private operator may be missing, wrong or slow in some build: it is tried on made-up codes.
    """
    if not with_torch:
        return CONVERTED
    import numpy as np

    random = np.random.default_rng(0)
    values = random.integers(-127, 128, (_TRIAL_ROWS, dimension), dtype=np.int8)
    # Extremes too: all of full size and one sign, and nothing but the last.
    values[0], values[1] = 127, -127
    values[2] = 0
    values[2, -1] = 127
    lengths = np.maximum(np.sqrt((values.astype(np.float32) ** 2).sum(axis=1)), 1)
    scales = (1 / lengths).view(np.uint32) >> np.uint32(16)
    codes = Codes(values, scales.astype(np.uint16), np.zeros(_TRIAL_ROWS, dtype=np.float32))
    count = _TRIAL_QUERIES if many else 1
    queries = np.ascontiguousarray(values[:count] / lengths[:count, None], dtype=np.float32)
    truth = codes.float_scales().astype(np.float64)[:, None] * (values @ queries.T.astype(np.float64))
    preferred = _PREFERRED[many]
    taken, limit = (_seconds(kernel, codes, queries, truth) for kernel in (preferred, CONVERTED))
    return preferred if taken <= _FAR_SLOWER * limit else CONVERTED


def _seconds(kernel: Kernel, codes: Codes, queries: np.ndarray, truth: np.ndarray) -> float:
    """Return the time a kernel takes here; infinite if it fails, or breaks its bound."""
    import numpy as np

    best = float("inf")
    asked = Queries(queries, kernel)
    # By this thread's clock, which stands while others have the processor.
    for _ in range(_TRIAL_ROUNDS):
        start = time.thread_time()
        values, constant, _ = asked.score(codes)
        seconds = time.thread_time() - start
        if values.shape != truth.shape or not (np.abs(values - truth) <= constant).all():
            return float("inf")
        # It gave up, and another one answered.
        if asked.kernel is not kernel:
            return float("inf")
        best = min(best, seconds)
        if seconds > _SLOW_SECONDS:
            break
    return best
