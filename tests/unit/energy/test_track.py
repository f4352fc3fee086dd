"""The bookkeeping of one counter, on a simulated clock."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.simulation import Machine, Simulation, drawn_machine
from titan_nb.energy.account import NOT_IN_TIME, Account
from titan_nb.energy.sensors import Reading
from titan_nb.energy.trace import MAX_POINTS
from titan_nb.energy.track import Track
from titan_nb.records import Energy

SEEDS = st.integers(0, 2**31)


def between(energy: Energy, joules: float) -> bool:
    assert energy.low is not None
    assert energy.high is not None
    return energy.low - 1e-6 <= joules <= energy.high + 1e-6


def warm(machine: Machine, seed: int) -> Simulation:
    """Return a simulation that has seen some cells."""
    simulation = Simulation(machine, random.Random(seed))
    for _ in range(5):
        simulation.cell(0.3)
        simulation.wait(0.5)
    return simulation


@pytest.mark.parametrize(("seconds", "error"), [(0.1, 0.02), (1.0, 0.002), (10.0, 0.0002)])
def test_a_busy_cell_is_told_from_the_idle_time_around_it(seconds: float, error: float) -> None:
    cell = warm(Machine(), 1).cell(seconds)
    assert cell.energy.joules == pytest.approx(cell.true_joules, rel=error)
    assert cell.energy.idle_joules == pytest.approx(70 * seconds, rel=0.02)
    assert between(cell.energy, cell.true_joules)
    assert between(cell.first, cell.true_joules)
    assert cell.late_seconds <= 0.102


@pytest.mark.parametrize("pause_seconds", [100, 200, 1800])
def test_the_first_cell_after_a_pause_is_told_as_well(pause_seconds: float) -> None:
    simulation = warm(Machine(), 3)
    simulation.wait(pause_seconds)
    cell = simulation.cell(0.5)
    assert cell.energy.joules == pytest.approx(cell.true_joules, rel=0.01)
    assert between(cell.energy, cell.true_joules)


def test_a_cell_shorter_than_a_tick_is_bounded_and_never_zero() -> None:
    cell = warm(Machine(), 2).cell(0.01)
    assert cell.energy.grade == "bounded"
    assert cell.energy.low == 0
    assert cell.energy.joules == pytest.approx(cell.true_joules, rel=0.3)
    assert "no whole tick" in cell.energy.source


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_the_interval_holds_the_truth_on_any_machine(seed: int) -> None:
    """A counter that integrates bounds by construction: not one cell in any number may lie outside."""
    source = random.Random(seed)
    simulation = Simulation(drawn_machine(source, 1.0), source)
    cells = []
    for _ in range(20):
        cells.append(simulation.cell(source.choice((0.01, 0.1, 1.0))))
        simulation.wait(source.uniform(0, 2))
    assert all(between(cell.energy, cell.true_joules) for cell in cells)
    assert all(cell.energy.joules for cell in cells)


def test_a_part_time_counters_interval_covers_the_truth() -> None:
    """At least 95 % of two thousand cells on a hundred machines, of each of three lengths."""
    source = random.Random(20261122)
    held, cells = 0, 0
    for _ in range(100):
        simulation = Simulation(drawn_machine(source, 0.25), source)
        for number in range(20):
            cell = simulation.cell((0.01, 0.1, 1.0)[number % 3])
            held += between(cell.energy, cell.true_joules)
            cells += 1
            simulation.wait(source.uniform(0, 2))
    print(f"part-time counter: {held} of {cells} cells hold the truth")
    assert held >= 0.95 * cells


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS)
def test_cells_and_gaps_add_up_to_the_counter(seed: int) -> None:
    """Each increment goes to exactly one cell or gap, and each of them holds its own truth."""
    source = random.Random(seed)
    simulation = Simulation(drawn_machine(source, 1.0), source)
    track, sensor = simulation.track, simulation.sensor
    assert track._steps.last is not None
    first = track._steps.last.value
    cells: list[Account] = []
    gaps: list[Account] = []
    # From before the first tick on, as what the first step holds may have been drawn before the first look.
    leading = track.open(simulation.now - 10, simulation, works=False)
    simulation._gap = leading
    gaps.append(leading)
    for _ in range(source.randint(1, 30)):
        simulation.wait(source.choice((0.0, source.uniform(0, 0.05), source.uniform(0, 3))))
        cell = simulation.begin()
        simulation.wait(source.choice((source.uniform(0, 0.02), source.uniform(0, 0.5), 2.0)))
        if source.random() < 0.3:
            # One inside: it is part of the cell, and not counted beside it.
            inner = track.open(simulation.now, simulation)
            simulation.wait(0.05)
            track.close(inner, simulation.now)
        gaps.append(simulation.end(cell))
        cells.append(cell)
    for account in cells:
        simulation.settle(account)
    last = track._steps.last
    assert last is not None
    shares = sum(account._joules for account in (*cells, *gaps))
    assert shares == pytest.approx(last.value - first, abs=1e-3)
    for account in (*cells, *gaps[1:-1]):
        energy = track.energy(account)
        assert account._joules >= 0
        assert between(energy, sensor.true_joules(account.started, account.ended))


def test_a_counter_that_is_reset_costs_only_what_was_open() -> None:
    simulation = warm(Machine(), 3)
    account = simulation.begin()
    simulation.wait(0.2)
    now = simulation.now + 0.01
    done, trouble = simulation.track.take(Reading(now, 0.0), now)
    assert trouble == "the counter went backwards"
    assert account in done
    assert simulation.track.energy(account) == Energy.unknown("the counter went backwards")


def tracked(values: list[tuple[float, float]], track: Track) -> None:
    for at, value in values:
        track.take(Reading(at, value), at)


def test_a_window_without_a_reading_is_unknown(simulated: Any) -> None:
    track = Track(simulated)
    account = track.open(1.0, track)
    track.close(account, 2.0)
    assert track.energy(account) == Energy.unknown(NOT_IN_TIME)
    track.take("a simulated fault", 5.0)
    assert track.energy(account) == Energy.unknown("a simulated fault")
    assert account.final


def test_a_counter_that_stands_still_is_waited_for_only_so_long(simulated: Any) -> None:
    track = Track(simulated)
    tracked([(0.9, 10.0)], track)
    account = track.open(1.0, track)
    track.close(account, 2.0)
    tracked([(2.1, 10.0), (2.9, 10.0)], track)
    assert not account.final
    tracked([(3.2, 10.0)], track)
    assert account.final
    energy = track.energy(account)
    assert energy.grade == "unknown"
    assert "did not move" in energy.source


def test_what_was_missed_at_the_start_widens_the_interval(simulated: Any) -> None:
    track = Track(simulated)
    account = track.open(1.0, track)
    tracked([(1.5, 10.0), (1.6, 20.0), (1.7, 30.0), (1.8, 40.0)], track)
    track.close(account, 1.75)
    tracked([(1.9, 50.0), (2.0, 60.0)], track)
    energy = track.energy(account)
    assert energy.high is not None
    assert energy.high >= 700 * 0.5
    assert "not seen in its first 0.5 s" in energy.source


def test_a_window_that_nobody_will_close_goes(simulated: Any) -> None:
    class Owner:
        pass

    track, owner = Track(simulated), Owner()
    track.open(1.0, owner)
    del owner
    track.take(Reading(2.0, 1.0), 2.0)
    assert track._accounts == []


def test_ten_days_keep_a_trace_of_bounded_size() -> None:
    """One reading each second of a simulated ten-day cell, of which none is kept in full."""
    simulation = Simulation(Machine(tick_seconds=0.1), random.Random(5))
    track = simulation.track
    account, value, at = track.open(simulation.now, simulation), 1000.0, simulation.now
    for _ in range(864_000):
        at, value = at + 1.0, value + 500.0
        track.take(Reading(at, value), at)
    track.close(account, at)
    track.take(Reading(at + 0.1, value + 50), at + 0.1)
    track.take(Reading(at + 0.2, value + 100), at + 0.2)
    energy = track.energy(account)
    assert energy.joules == pytest.approx(500 * 864_000, rel=1e-5)
    assert len(track.trace) <= MAX_POINTS
    assert len(track._accounts) == 0
