from __future__ import annotations

import pytest

from titan_nb.energy.trace import MAX_POINTS, TraceRing


def prepared() -> TraceRing:
    ring = TraceRing()
    ring.prepare()
    return ring


def test_power_between_two_moments() -> None:
    ring = prepared()
    for at, joules in ((0, 0), (1, 70), (2, 770), (3, 840)):
        ring.add(at, joules)
    trace = ring.between(1, 2)
    assert trace.seconds.tolist() == [1, 2]
    assert trace.watts.tolist() == [700]
    assert ring.between(-5, 9).watts.tolist() == [70, 700, 70]
    assert ring.between(1.5, 1.6).watts.tolist() == [700]


def test_nothing_seen_is_an_empty_trace() -> None:
    ring = TraceRing()
    ring.add(1, 5)
    assert ring.between(0, 1).watts.tolist() == []
    assert prepared().between(0, 1).watts.tolist() == []


def test_a_point_that_is_not_later_is_left_out() -> None:
    ring = prepared()
    ring.add(1, 0)
    ring.add(1, 5)
    assert len(ring) == 1


def test_ten_days_fit_and_keep_their_energy() -> None:
    ring, ticks = prepared(), 864_000
    for number in range(ticks):
        ring.add(float(number), 100.0 * number)
    trace = ring.between(0, ticks)
    assert len(trace.seconds) <= MAX_POINTS
    assert trace.seconds[0] == 0
    assert trace.seconds[-1] == ticks - 1
    assert trace.watts == pytest.approx(100.0)
    # What is new is seen finely, what is old coarsely.
    assert trace.seconds[-1] - trace.seconds[-1000] < 1000
    assert ring._points.nbytes <= 2 * 8 * MAX_POINTS
