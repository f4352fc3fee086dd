"""Whose joules a step of a counter is: one pure function, which hands out each joule exactly once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Span", "apportion"]


class Span(NamedTuple):
    """A stretch of time that is to get its share.

    Attributes:
        started: Its start in seconds.
        ended: Its end; ``inf`` while it goes on.
        works: Whether the device may be at work for it: True for a window, False for a gap.
    """

    started: float
    ended: float
    works: bool = True


def apportion(
    begin: float,
    end: float,
    joules: float,
    spans: Sequence[Span],
    idle_watts: float | None,
    limit_watts: float = math.inf,
) -> list[float]:
    """Return each span's share, in joules, of one step of a counter.

    The step is cut at the edges of the spans. Each piece gets what the device draws when nobody works,
    ``idle_watts`` times its length; what is left is spread by length over the pieces in which somebody may
    work, up to what the device can draw in them, and what is left then over the others. Where the step
    holds less than idle, or nobody may work, or idle is unknown, all is spread by length. So no share is
    negative, and the pieces add up to ``joules``. A span's share is the sum of its pieces: spans side by side
    share out what they cover, and spans that lie in others get the same pieces again.

    Args:
        begin: When the step began, in seconds.
        end: When it ended; a step without length goes to the spans around that moment.
        joules: The increment of the counter.
        spans: Who may have a share.
        idle_watts: The power when nobody works, in watts; None when unknown.
        limit_watts: The most that the device draws, in watts.
    """
    length = end - begin
    if length <= 0:
        return [joules if span.started <= end <= span.ended else 0.0 for span in spans]
    edges = {begin, end}
    for span in spans:
        edges.update(edge for edge in span[:2] if begin < edge < end)
    cuts = sorted(edges)
    pieces = [
        (left, right, [span.started <= left and right <= span.ended for span in spans])
        for left, right in itertools.pairwise(cuts)
    ]
    workers = [span.works for span in spans]
    working = [any(map(lambda one, works: one and works, inside, workers)) for _, _, inside in pieces]
    worked = sum(right - left for (left, right, _), one in zip(pieces, working, strict=True) if one)
    if not worked or idle_watts is None or joules <= idle_watts * length:
        idle, rest, over = joules, 0.0, 0.0
    else:
        idle = idle_watts * length
        rest = joules - idle
        others = length - worked
        over = max(0.0, rest - max(0.0, limit_watts - idle_watts) * worked) if others > 0 else 0.0
        rest -= over
    shares = [0.0] * len(spans)
    for (left, right, inside), one in zip(pieces, working, strict=True):
        part = right - left
        share = idle * (part / length)
        if one and rest:
            share += rest * (part / worked)
        elif over and not one:
            share += over * (part / others)
        for number, mine in enumerate(inside):
            if mine:
                shares[number] += share
    return shares
