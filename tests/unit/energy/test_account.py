from __future__ import annotations

import math

import pytest

from titan_nb.energy import FakeSensor
from titan_nb.energy.account import NOT_IN_TIME, Account
from titan_nb.energy.bracket import MAX_WATTS
from titan_nb.energy.sensors import Reading
from titan_nb.energy.steps import Step, Tick
from titan_nb.records import Energy


class Owner:
    pass


OWNER = Owner()


def tick(at: float) -> Tick:
    return Tick(at, at, at)


def step(begin: float, end: float, joules: float) -> Step:
    return Step(tick(begin), tick(end), joules, end - begin)


def opened() -> Account:
    return Account(1.0, Reading(0.9, 5.0), 1.0, OWNER)


def test_it_is_final_with_the_first_tick_after_its_end(simulated: FakeSensor) -> None:
    account = opened()
    account.add(step(0.5, 1.5, 100), 60)
    assert account.seen_first_tick
    account.add(step(1.5, 2.5, 100), 100)
    account.close(3.0, known=False)
    account.read(Reading(3.0, 205.0))
    assert account.answered
    assert not account.final
    account.add(step(2.5, 3.5, 100), 40)
    assert account.final
    energy = account.whole(simulated, tick(3.5), 20.0)
    assert energy == Energy(200, 100, 300, "measured", "simulated counter", 40.0)


def test_before_that_the_device_may_have_drawn_its_limit_since_its_last_tick(simulated: FakeSensor) -> None:
    account = opened()
    account.add(step(0.5, 1.5, 100), 60)
    account.add(step(1.5, 2.5, 100), 100)
    account.close(3.0, known=True)
    assert account.answered
    energy = account.whole(simulated, tick(2.5), 20.0)
    assert (energy.joules, energy.low, energy.high) == (170, 100, 200 + 700 * 0.5)


def test_an_open_one_has_a_figure_so_far(simulated: FakeSensor) -> None:
    account = opened()
    account.add(step(0.5, 1.5, 100), 60)
    assert account.whole(simulated, tick(1.5), 20.0) == Energy.unknown(NOT_IN_TIME)
    energy = account.whole(simulated, tick(1.5), 20.0, now=1.6)
    assert energy.joules == pytest.approx(62)
    assert account.ended == math.inf


def test_without_idle_power_nothing_is_said_of_it(simulated: FakeSensor) -> None:
    account = opened()
    account.close(1.2, known=True)
    account.add(step(0.5, 1.5, 100), 20)
    energy = account.whole(simulated, tick(1.5), None)
    assert energy.idle_joules is None
    assert (energy.low, energy.grade) == (0, "bounded")


def test_an_unknown_limit_is_said(simulated: FakeSensor) -> None:
    simulated.limit_watts = MAX_WATTS
    account = opened()
    account.close(1.2, known=True)
    assert "power limit unknown" in account.whole(simulated, tick(0.9), 20.0).source


@pytest.mark.parametrize(("why", "source"), [("", "did not move"), ("lost", "lost")])
def test_given_up_it_says_why(simulated: FakeSensor, why: str, source: str) -> None:
    account = opened()
    account.close(2.0, known=False)
    account.read(Reading(2.1, 5.0))
    account.expire(why)
    assert account.final
    assert source in account.whole(simulated, tick(0.9), 20.0).source


def test_given_up_after_it_moved_it_keeps_what_was_seen(simulated: FakeSensor) -> None:
    account = opened()
    account.add(step(0.5, 1.5, 100), 60)
    account.close(2.0, known=False)
    account.read(Reading(2.1, 105.0))
    account.expire("")
    energy = account.whole(simulated, tick(1.5), 20.0)
    assert (energy.joules, energy.high) == (70, 100 + 700 * 0.5)


def test_an_account_without_its_owner_is_an_orphan() -> None:
    owner = Owner()
    account = Account(1.0, None, 1.0, owner)
    assert not account.orphaned
    del owner
    assert account.orphaned
    account.close(2.0, known=False)
    assert not account.orphaned
