"""A copy of rows on a GPU in half precision, with scores that know how far they can be off."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from titan_nb.chat.device import own_rules
from titan_nb.memory.shortage import is_shortage, resource_error

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["DeviceRows"]

# Worked on at a time, in float32: enough to keep a GPU busy, little enough to find room on a full one.
_BLOCK_BYTES = 16 << 20
_HALF_BYTES = 2
_ERROR_BYTES = 4
# Below its own allowance of rounding each bound keeps this much for the few operations that are made with it.
_SPARE_ADDITIONS = 32
_LOST_PER_ADDITION = 2.0**-22


class _Copy(NamedTuple):
    """What is on the device at one moment.

    Attributes:
        halves: The rounded rows, shape (n, d).
        errors: At least the length of what rounding took from each row, float32, shape (n,).
        longest: At least the length of the longest rounded row.
    """

    halves: torch.Tensor
    errors: torch.Tensor
    longest: float


class DeviceRows:
    r"""Unit rows in half precision on one device; all methods may be called from any thread.

    The scores are bounded. Let x be a row and q a query, both float32, x' and q' what rounding to half
    precision makes of them, and s the score that the device computes. Then::

        |q.x - s| <= |q.(x - x')| + |(q - q').x'| + |q'.x' - s|
                  <= |q| |x - x'| + |q - q'| |x'| + (d + 32) 2^-22 |q'| |x'|

    The first two terms are the inequality of Cauchy and Schwarz. |x - x'| is measured for each row when it
    is copied, and |q - q'| for each query; neither is estimated from the format. The third is the sum of d
    products. Each product is exact in float32, whose 24 digits hold two factors of 11. An addition in
    float32 loses 2^-24 of the sum of magnitudes, in any order (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., section 3.1). Tensor cores cut digits off instead of rounding, once per term where
    they align a group of at least four and once or twice more per group: 2^-23 each, at most 1.5 times as
    often as there are terms (Fasi, Higham, Mikaitis, Pranesh, Numerical behavior of NVIDIA tensor cores,
    PeerJ Computer Science 7:e330, 2021). 2^-22 covers both, and |q'| |x'| is at least the sum of magnitudes.
    The 32 additions more are room for ``s + bound`` in float32, for the rounding of the bound itself, and
    for that of a score in float64 to 12 decimals.

    The products are made from the halves turned into float32 again, block by block, and not by a matrix
    product of halves. That one is at the mercy of what the user has set for his own work: with
    ``torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction``, which is on by default, partial
    sums are rounded to halves, and with ``allow_fp16_accumulation`` every sum is. Changing these for a moment
    would change what his other threads compute. A float32 product may at most have its factors rounded: to
    the 11 digits of TF32 on CUDA, which float16 and bfloat16 pass unharmed, or elsewhere to the 8 digits of
    bfloat16 (``torch.set_float32_matmul_precision("medium")``), which only bfloat16 does. So the halves are
    float16 where the factors keep 11 digits, and bfloat16 on all other devices.

    Args:
        rows: Unit rows, float32, shape (n, d), n at least 1; copied.
        device: What `torch.device` takes.

    Raises:
        ResourceError: If the device has no room for them.
    """

    def __init__(self, rows: np.ndarray, device: str) -> None:
        import torch

        self._dimension = int(rows.shape[1])
        self._lock = threading.RLock()  # reentrant: a finaliser that runs meanwhile may search
        wanted = torch.device(device)
        with own_rules(wanted):
            halves = torch.empty((0, self._dimension), dtype=_half(wanted), device=wanted)
            errors = torch.empty(0, dtype=torch.float32, device=halves.device)
        self._device = halves.device  # with its index: another may be the current one later
        self._copy = _Copy(halves, errors, 0.0)
        self._count = 0
        self.extend(rows)

    @staticmethod
    def bytes_needed(count: int, dimension: int) -> int:
        """Return what a new copy of so many rows takes on a device."""
        return count * (dimension * _HALF_BYTES + _ERROR_BYTES)

    @property
    def count(self) -> int:
        """Number of rows."""
        return self._count

    @property
    def device(self) -> str:
        """Where they are, such as ``cuda:0``."""
        return str(self._device)

    @property
    def device_bytes(self) -> int:
        """What they take there, with the room kept for rows to come."""
        return self.bytes_needed(len(self._copy.halves), self._dimension)

    def bytes_with(self, count: int) -> int:
        """Return what it will take once it has been extended to so many rows."""
        return self.bytes_needed(self._capacity(count), self._dimension)

    def extend(self, rows: np.ndarray) -> None:
        """Copy what ``rows`` holds beyond the rows that are here already.

        Args:
            rows: All rows, float32, shape (n, d); the first `count` are those that are here.

        Raises:
            ResourceError: If the device has no room for them; then all is as it was.
        """
        with self._lock:
            start, end = self._count, len(rows)
            if end <= start:
                return
            try:
                with own_rules(self._device):
                    self._copy = self._filled(rows, start, end)
            except (RuntimeError, MemoryError) as error:
                if not is_shortage(error):
                    raise
                doing = f"a copy of {end - start:,} rows of {self._dimension} numbers"
                raise resource_error(doing, self.bytes_with(end), self._device) from error
            self._count = end  # last: a search meanwhile sees the rows that were there before

    def scores(self, queries: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of all rows, and how far each may be from the true one.

        Args:
            queries: float32, shape (m, d).

        Returns:
            The scores, float32, shape (m, n), and the bound, float32, shape (1, n), both on the device:
            ``|score - true score| <= bound`` for every query, and so for sums of both in float32.

        Raises:
            ResourceError: If the device has no room for the work.
        """
        with self._lock:
            count, copy = self._count, self._copy
        try:
            with own_rules(self._device):
                return self._scored(queries, copy, count)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            doing = f"scoring {count:,} rows for {len(queries):,} queries"
            raise resource_error(doing, 4 * count * len(queries), self._device) from error

    def _capacity(self, count: int) -> int:
        held = len(self._copy.halves)
        return held if count <= held else max(count, 2 * held)

    def _filled(self, rows: np.ndarray, start: int, end: int) -> _Copy:
        """Return the copy with rows ``start`` to ``end`` in it, in larger tensors where it has to be."""
        import torch

        halves, errors, longest = self._copy
        capacity = self._capacity(end)
        if capacity > len(halves):
            grown = torch.empty((capacity, self._dimension), dtype=halves.dtype, device=self._device)
            grown_errors = torch.empty(capacity, dtype=torch.float32, device=self._device)
            grown[:start], grown_errors[:start] = halves[:start], errors[:start]
            halves, errors = grown, grown_errors
        slack = 1.0 + (self._dimension + _SPARE_ADDITIONS) * _LOST_PER_ADDITION
        # Squares below the smallest float32 count as zero.
        vanished = self._dimension * 2.0**-60
        for first, last in self._blocks(start, end):
            exact = _tensor(rows[first:last]).to(self._device)
            rounded = exact.to(halves.dtype)
            halves[first:last] = rounded
            widened = rounded.to(torch.float32)
            # The difference is exact: it has only digits that the row had.
            lost = exact.sub_(widened).square_().sum(1).sqrt_()
            errors[first:last] = lost.mul_(slack).add_(vanished)
            # Read by the host, and so the block is there before any stream of another thread looks at it.
            longest = max(longest, float(widened.square_().sum(1).max()) ** 0.5 * slack)
        return _Copy(halves, errors, longest)

    def _scored(self, queries: np.ndarray, copy: _Copy, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        import torch

        exact = _tensor(queries)
        rounded = exact.to(copy.halves.dtype)
        halves = rounded.to(self._device).to(torch.float32)
        scores = torch.empty((len(queries), count), dtype=torch.float32, device=self._device)
        for first, last in self._blocks(0, count):
            scores[:, first:last] = halves @ copy.halves[first:last].to(torch.float32).T
        whole, half = exact.double(), rounded.double()
        lengths, lost = whole.norm(dim=1), (whole - half).norm(dim=1)
        summed = (self._dimension + _SPARE_ADDITIONS) * _LOST_PER_ADDITION * half.norm(dim=1)
        fixed = float((lost + summed).max()) * copy.longest
        return scores, (copy.errors[:count] * float(lengths.max()) + fixed)[None, :]

    def _blocks(self, start: int, end: int) -> list[tuple[int, int]]:
        step = max(1, _BLOCK_BYTES // (4 * self._dimension))
        return [(first, min(first + step, end)) for first in range(start, end, step)]


def _half(device: torch.device) -> torch.dtype:
    import torch

    return torch.float16 if device.type in {"cuda", "mps"} else torch.bfloat16


def _tensor(array: np.ndarray) -> torch.Tensor:
    """Return a tensor of one's own: torch warns of arrays that cannot be written, such as mapped ones."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(array, order="C"))
