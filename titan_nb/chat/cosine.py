"""The rows nearest to a query by cosine, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from titan_nb.chat.device import own_rules

if TYPE_CHECKING:
    import torch

    from titan_nb.chat.chunk import View

__all__ = ["Found", "nearest"]

_RESCORE_ROWS = 4096


class Found(NamedTuple):
    """Where one row is, and its score."""

    view: int
    row: int
    score: float


def nearest(views: Sequence[View], query: torch.Tensor, k: int) -> list[Found]:
    """Return the k best rows, best first, equal scores by id; fewer when there are fewer rows.

    A first pass scores every row in float32. Every row that rounding may have kept out of the best k is
    scored again in float64, so that the answer depends neither on the device nor on the order of the rows.

    Args:
        views: Where to look; rows on one device.
        query: A unit vector, float32, shape (d,), on the same device.
        k: How many rows to return, at least 1.
    """
    import torch

    if not views:
        return []
    with own_rules(query.device):
        scores = torch.cat([view.rows @ query for view in views]).cpu()
        near = (scores >= _kth_best(scores, k) - 2 * _rounding(len(query))).nonzero().squeeze(1)
        ends = torch.tensor([len(view.rows) for view in views], device="cpu").cumsum(0)
        owners = torch.bucketize(near, ends, right=True)
        candidates = []
        for number in owners.unique().tolist():
            rows = views[number].rows
            places = near[owners == number] - (ends[number] - len(rows))
            candidates.append((number, places, _exact_scores(rows, places, query)))
        floor = _kth_best(torch.cat([exact for _, _, exact in candidates]), k)
        found = []
        for number, places, exact in candidates:
            best = exact >= floor
            pairs = zip(places[best].tolist(), exact[best].tolist(), strict=True)
            found += [Found(number, place, score) for place, score in pairs]
    found.sort(key=lambda hit: (-hit.score, views[hit.view].ids[hit.row]))
    return found[:k]


def _kth_best(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Return the k-th largest score, or the smallest where there are fewer."""
    return scores.topk(min(k, len(scores)), sorted=False).values.min()


def _exact_scores(rows: torch.Tensor, places: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Return the float64 scores, on the host, of the ``rows`` at ``places``."""
    import torch

    exact_query = query.to("cpu", torch.float64)
    parts = [
        rows[part].to("cpu", torch.float64).mul_(exact_query).sum(dim=1)
        for part in places.to(rows.device).split(_RESCORE_ROWS)
    ]
    # Equal rows must tie; the last digits of a sum depend on how many threads made it.
    return torch.cat(parts).round(decimals=12)


def _rounding(dimension: int) -> float:
    """Return a bound on the error of a float32 dot product of two unit vectors.

    d 2^-24 for the sum (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), and
    2^-8 because the user may let torch round the factors to TF32 or bfloat16
    (``torch.set_float32_matmul_precision``).
    """
    return float(dimension * 2.0**-24 + 2.0**-8)
