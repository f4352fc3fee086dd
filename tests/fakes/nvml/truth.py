"""The true energy of a device, and what its counter must show, worked out apart from the C library."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

__all__ = ["counter_joules", "ticks_ns", "true_joules"]

_MASK = 2**64 - 1


def true_joules(device: Any, spans: Any, at_ns: int) -> float:
    """Return the joules that the device has drawn from its birth to ``at_ns``."""
    if at_ns <= device.epoch_ns:
        return 0.0
    joules: float = device.idle_watts * (at_ns - device.epoch_ns) * 1e-9
    count = bisect_left(spans, at_ns, 0, device.span_count, key=lambda span: span.begin_ns)
    if count:
        span = spans[count - 1]
        busy_ns = min(span.end_ns, at_ns) - span.begin_ns
        joules += span.above_joules + (span.watts - device.idle_watts) * busy_ns * 1e-9
    return joules


def ticks_ns(device: Any, end_ns: int) -> Iterator[int]:
    """Yield the times of the device's ticks from the first to ``end_ns``."""
    tick = 0
    while True:
        at = device.epoch_ns + device.phase_ns + tick * device.tick_ns
        if device.jitter_ns:
            at += _round(_noise(device.seed, tick) * device.jitter_ns)
        if at > end_ns:
            return
        yield at
        tick += 1


def counter_joules(device: Any, spans: Any, at_ns: int) -> float:
    """Return what the counter shows at ``at_ns``, in whole millijoules."""
    joules, last, offset = 0.0, device.epoch_ns, float(device.offset_joules)
    for tick in ticks_ns(device, at_ns):
        if device.duty < 1 and tick > last:
            seen = max(1, _round((tick - last) * device.duty))
            drawn = true_joules(device, spans, tick) - true_joules(device, spans, tick - seen)
            joules += drawn / seen * (tick - last)
        last = max(last, tick)
    if device.duty == 1:
        joules = true_joules(device, spans, last)
    return max(0, math.floor((joules + offset) * 1000 + 1e-6)) / 1000


def _noise(seed: int, tick: int) -> float:
    """Return a number from -1 to 1 that depends on seed and tick only (the finaliser of SplitMix64)."""
    z = (seed + 0x9E3779B97F4A7C15 * (tick + 1)) & _MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
    z ^= z >> 31
    return (z >> 11) * 2.0**-52 - 1.0


def _round(value: float) -> int:
    """Round halves away from zero, as C does."""
    return math.floor(abs(value) + 0.5) * (-1 if value < 0 else 1)
