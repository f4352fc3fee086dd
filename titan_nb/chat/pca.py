"""Principal components: fewer numbers per row, chosen by where the rows vary most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import torch

__all__ = ["Components", "fit"]

# 16 MiB of float64 at a time.
_BATCH_NUMBERS = 2**21
_NOISE = 1e-6


@dataclass(frozen=True, slots=True)
class Components:
    """What a fit found; see `fit`.

    Attributes:
        mean: Mean of the rows, float64, shape (d,), on the host.
        axes: Orthonormal directions, that of the largest variance first, float64, shape (k, d), on the host;
            zeros in place of a direction in which the rows do not vary.
        explained: The share of the variance along each axis, from 0 to 1.
    """

    mean: torch.Tensor
    axes: torch.Tensor
    explained: tuple[float, ...]

    @property
    def count(self) -> int:
        """How many components there are."""
        return len(self.explained)

    def explained_variance(self, count: int) -> float:
        """Return the share of the variance that the first ``count`` components keep, from 0 to 1."""
        return min(1.0, sum(self.explained[:count]))

    def project(self, rows: torch.Tensor, count: int) -> torch.Tensor:
        """Return the coordinates of unit rows along the first ``count`` axes, float32, shape (n, count).

        A row that does not differ from the mean has zeros.

        Args:
            rows: Shape (n, d), on any device; the work is done there.
            count: At most `count`.

        Raises:
            ChatError: If the rows have another dimension than those of the fit.
        """
        import torch

        if rows.shape[1] != len(self.mean):
            raise ChatError(
                f"the rows have {rows.shape[1]} numbers, and the principal components belong to rows of "
                f"{len(self.mean)}: use one model for a chat"
            )
        mean, axes = self.mean.to(rows.device), self.axes[:count].to(rows.device)
        reduced = torch.empty((len(rows), count), dtype=torch.float32, device=rows.device)
        step = max(1, _BATCH_NUMBERS // rows.shape[1])
        for start in range(0, len(rows), step):
            # In float64: on some GPUs float32 products are rounded to ten bits.
            centred = rows[start : start + step].double().sub_(mean)
            reduced[start : start + step] = centred @ axes.T
        # What is shorter is the rounding of float32, and its direction noise.
        reduced *= torch.linalg.vector_norm(reduced, dim=1, keepdim=True) > _NOISE
        return reduced


def fit(rows: torch.Tensor, count: int) -> Components:
    """Find the principal components of unit rows, on the host and in float64.

    The eigenvectors of the rows' covariance, or of their inner products where these are fewer: exact, without
    random numbers, and with the sign that makes the largest entry of each axis positive.

    Args:
        rows: float32, shape (n, d), on any device.
        count: How many components.

    Raises:
        ChatError: If there are fewer rows, or fewer numbers in a row, than components, or all rows are equal.
    """
    import torch

    rows = rows.cpu()
    number, dimension = rows.shape
    if count > dimension:
        raise ChatError(
            f"dimension_reduction is {count}, and the rows have {dimension} numbers: ask for at most as many"
        )
    if number < count:
        raise ChatError(
            f"dimension_reduction is {count}, and there are {number} rows to fit it to: pass at least "
            f"{count} rows the first time, or ask for fewer components"
        )
    mean = rows.mean(dim=0, dtype=torch.float64)
    wide = number < dimension
    if wide:
        centred = rows.double() - mean
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        vectors = centred.T @ vectors
    else:
        values, vectors = torch.linalg.eigh(_scatter(rows, mean))
    values, vectors = values.flip(0), vectors.flip(1)[:, :count]
    total = float(values.clamp_min(0).sum())
    # What is left of a sum of squares of unit rows when all of it is rounding.
    if total <= 1e-12 * number:
        raise ChatError("dimension_reduction needs rows that differ, and all rows here are equal")
    values = values[:count]
    lengths = torch.linalg.vector_norm(vectors, dim=0)
    real = values > 1e-12 * total
    axes = torch.where(real, vectors / torch.where(real, lengths, 1.0), 0.0).T.contiguous()
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    axes = torch.where(largest < 0, -axes, axes)
    explained = torch.where(real, values / total, 0.0)
    return Components(mean, axes, tuple(explained.tolist()))


def _scatter(rows: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return the sum of the outer products of the centred rows, float64, shape (d, d)."""
    import torch

    dimension = rows.shape[1]
    scatter = torch.zeros((dimension, dimension), dtype=torch.float64)
    step = max(1, _BATCH_NUMBERS // dimension)
    for start in range(0, len(rows), step):
        centred = rows[start : start + step].double().sub_(mean)
        scatter.addmm_(centred.T, centred)
    return scatter
