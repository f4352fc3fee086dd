"""From two readings of a ticking counter to an interval that holds the truth; pure arithmetic."""

from __future__ import annotations

from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.records import Energy

__all__ = ["MAX_WATTS", "bracket"]

MAX_WATTS = 100_000.0
"""A bound in watts that no single device comes near, so what is above it is nonsense (a counter of 1e30).

It is also the power allowed for at the edges of a window where a device does not tell its own limit.
"""


def bracket(
    begin: Reading,
    end: Reading,
    started: float,
    ended: float,
    *,
    limit_watts: float,
    tick_seconds: float,
    source: str,
) -> Energy:
    """Return the energy of a window by a counter that moves in ticks, with an interval that holds the truth.

    A counter shows the energy up to its last tick, which is up to ``tick_seconds`` old, and a reading lies
    somewhat before or after the edge of the window that it stands for. The device draws between zero and
    ``limit_watts``, so with T the tick, P the limit, b and e the offsets of the two readings from their
    edges (positive: late)::

        delta - P (T + max(0, -b) + max(0, e))  <=  energy  <=  delta + P (T + max(0, b) + max(0, -e))

    clamped at zero below. A window shorter than a tick is graded *bounded*: its counter may not have moved
    at all, so only the upper end says anything.

    Args:
        begin: Reading near the start, value in joules.
        end: Reading near the end, value in joules.
        started: Start of the window in seconds.
        ended: End of the window in seconds.
        limit_watts: The most that the device draws, in watts.
        tick_seconds: The longest time between two ticks, in seconds.
        source: Which counter it is, for the report.

    Raises:
        SensorError: If the counter went backwards.
    """
    delta = end.value - begin.value
    if delta < 0:
        raise SensorError("the counter went backwards")
    late_begin, late_end = begin.at - started, end.at - ended
    below = limit_watts * (tick_seconds + max(0.0, -late_begin) + max(0.0, late_end))
    above = limit_watts * (tick_seconds + max(0.0, late_begin) + max(0.0, -late_end))
    if ended - started < tick_seconds:
        return Energy(delta, 0.0, delta + above, "bounded", f"{source}; shorter than a tick of the counter")
    return Energy(delta, max(0.0, delta - below), delta + above, "measured", source)
