"""Which approximate scores may belong to the best k."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["Reach", "kth_best", "near", "reach", "reach_on_device"]

_COLUMNS = 1024
_COLUMN_ROWS = 8
# So few candidates are taken as they are; more are worth a partition, which may leave fewer.
_FEW = 48
_LOWEST = -3.4e38


class Reach(NamedTuple):
    """The places whose score may belong to the best k, with what is known about it.

    Attributes:
        places: int64 (c,).
        lower: No score there is less than this, float64 (c,).
        upper: No score there is more than this, float64 (c,).
    """

    places: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def kth_best(values: np.ndarray, k: int) -> float:
    """Return the k-th largest value, or minus infinity where there are fewer."""
    import numpy as np

    count = len(values)
    if count < k:
        return -float("inf")
    return float(np.partition(values, count - k)[count - k])


def reach(values: np.ndarray, k: int, slack: Sequence[float], floors: Sequence[float]) -> list[np.ndarray]:
    """Return, for each query, the rows whose score may be among the best k, in no order.

    The rows are seen as a table of 1,024 columns, and the largest value of each column is looked at first.
    The k-th largest of these is no larger than the k-th largest value, so that only columns which reach it
    need a second look. The columns run down the rows, because such a maximum runs at the speed of memory.

    Args:
        values: Approximate scores, float32, shape (n, m); minus infinity for rows that do not count.
        k: How many are wanted, at least 1.
        slack: For each query: no score is further than this from its value.
        floors: For each query: it is known that k rows, here or elsewhere, score at least this.
    """
    import numpy as np

    count, queries = values.shape
    height = count // _COLUMNS
    if height < _COLUMN_ROWS or 2 * k > _COLUMNS:
        return [
            near(values[:, query], k, slack[query], floors[query] - slack[query]) for query in range(queries)
        ]
    table = values[: height * _COLUMNS].reshape(height, _COLUMNS, queries)
    rest = values[height * _COLUMNS :]
    peaks = table.max(axis=0)
    found = []
    for query in range(queries):
        floor = floors[query] - slack[query]
        columns = near(peaks[:, query], k, slack[query], floor)
        inside = np.concatenate((table[:, columns, query].ravel(), rest[:, query]))
        places = near(inside, k, slack[query], floor)
        split = int(np.searchsorted(places, height * len(columns)))
        row, column = np.divmod(places[:split], max(len(columns), 1))
        tail = places[split:] + (height * _COLUMNS - height * len(columns))
        found.append(np.concatenate((row * _COLUMNS + columns[column], tail)))
    return found


def near(values: np.ndarray, k: int, slack: float, floor: float) -> np.ndarray:
    """Return the places of values from ``floor``, and from twice the slack below the k-th best."""
    places = None
    if floor > _LOWEST:
        places = (values >= _below(floor)).nonzero()[0]
        if len(places) <= max(_FEW, k):
            return places
        values = values[places]
    best: np.ndarray = (values >= _below(kth_best(values, k) - 2 * slack)).nonzero()[0]
    return best if places is None else places[best]


def _below(value: float) -> float:
    """Return what is less than ``value`` also after rounding to float32, and never infinite."""
    return max(value - abs(value) * 2.0**-22 - 1e-30, _LOWEST)


def reach_on_device(
    values: torch.Tensor, bound: torch.Tensor, k: int, floors: Sequence[float]
) -> list[Reach]:
    """Return, for each query, the rows whose score may be among the best k; only they leave the device.

    Args:
        values: Approximate scores, shape (m, n); minus infinity for rows that do not count.
        bound: No score is further than this from its value, float64, broadcastable to (m, n).
        k: How many are wanted, at least 1.
        floors: For each query: it is known that k rows, here or elsewhere, score at least this.
    """
    import numpy as np
    import torch

    # In float64: these sums must not round a bound away.
    lower, upper = values.double() - bound, values.double() + bound
    floor = torch.tensor(floors, dtype=torch.float64, device=values.device)
    if k <= values.shape[1]:
        floor = torch.maximum(floor, lower.topk(k, dim=1).values[:, -1])
    query, place = ((upper >= floor[:, None]) & (values > -float("inf"))).nonzero(as_tuple=True)
    arrays = [array.cpu().numpy() for array in (place, lower[query, place], upper[query, place])]
    ends = np.searchsorted(query.cpu().numpy(), np.arange(1, len(values)))
    return [Reach(*some) for some in zip(*(np.split(array, ends) for array in arrays), strict=True)]
