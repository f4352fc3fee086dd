"""Rows in 8 bits a number, with a measured bound of what that loses."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np

__all__ = ["LENGTH", "Codes", "quantise"]

LENGTH = 1.001
"""No row is longer: they are unit rows, rounded to float32."""

_WORK_NUMBERS = 2**17
_TINY = 2.0**-100


class Codes(NamedTuple):
    """Rows x ~ scale * values, in d + 6 bytes a row.

    Attributes:
        values: int8 (n, d), from -127 to 127.
        scales: The upper halves of positive float32 numbers, uint16 (n,): such a scale is also a bfloat16
            number, and its product with a code is exact in float32.
        errors: No row is further than this from scale * values, in Euclidean length, float32 (n,).
    """

    values: np.ndarray
    scales: np.ndarray
    errors: np.ndarray

    @classmethod
    def empty(cls, rows: int, dimension: int, begin: Codes | None = None) -> Codes:
        """Return room for as many rows, which begin with the rows of ``begin``."""
        import numpy as np

        # NumPy asks the system for huge pages, torch does not: a scan of these is a third faster.
        codes = cls(
            np.empty((rows, dimension), dtype=np.int8),
            np.empty(rows, dtype=np.uint16),
            np.empty(rows, dtype=np.float32),
        )
        if begin is not None:
            for old, new in zip(begin, codes, strict=True):
                new[: len(old)] = old
        return codes

    @property
    def nbytes(self) -> int:
        """What they take."""
        return sum(array.nbytes for array in self)

    def part(self, first: int, last: int) -> Codes:
        """Return the rows from ``first`` to before ``last``; not a copy."""
        return Codes(*(array[first:last] for array in self))

    def take(self, rows: np.ndarray) -> Codes:
        """Return these rows, copied."""
        return Codes(*(array[rows] for array in self))

    def float_scales(self) -> np.ndarray:
        """Return the scales as float32 (n,)."""
        import numpy as np

        return (self.scales.astype(np.uint32) << 16).view(np.float32)


def quantise(rows: np.ndarray, out: Codes) -> None:
    """Fill ``out`` with the codes of ``rows``.

    The error of a row is measured, not estimated. A code times its scale is exact in float32 (7 and 8
    significant bits), and its difference to the row is rounded once, by 2^-24 of itself; the sum of d
    squares loses at most (d + 1) 2^-24 of itself, and squares that vanish make less than 2^-60. The error
    that is stored is larger than the measured one by more than all of that, so that it bounds the true one.

    Args:
        rows: float32 (n, d).
        out: Room for n rows.
    """
    import numpy as np

    count, dimension = rows.shape
    # As many rows at a time as stay in a core's own cache.
    step = max(1, _WORK_NUMBERS // max(dimension, 1))
    work = np.empty((min(step, count), dimension), dtype=np.float32)
    more = np.float32(1 + (dimension + 8) * 2.0**-23)
    for first in range(0, count, step):
        part = slice(first, min(first + step, count))
        block, values = rows[part], out.values[part]
        error = work[: len(block)]
        np.abs(block, out=error)
        peak = np.maximum(error.max(axis=1) / np.float32(127), np.float32(_TINY))
        # Rounded up, so that no code passes 127.
        out.scales[part] = (peak.view(np.uint32) + np.uint32(0xFFFF)) >> np.uint32(16)
        scale = out.part(part.start, part.stop).float_scales()[:, None]
        np.multiply(block, 1 / scale, out=error)
        np.rint(error, out=error)
        values[...] = error
        np.multiply(error, scale, out=error)
        np.subtract(block, error, out=error)
        out.errors[part] = np.sqrt(np.einsum("ij,ij->i", error, error)) * more + np.float32(2.0**-60)
