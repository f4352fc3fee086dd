from __future__ import annotations

import gc
import itertools
from collections.abc import Callable

import pytest

from titan_nb.memory.ceiling import Ceiling, Hold


class Knob:
    """A limit that the whole process has once."""

    def __init__(self, value: float = 100.0) -> None:
        self.value = value
        self.written: list[float] = []
        self.fault: Exception | None = None

    def write(self, value: float) -> None:
        if self.fault is not None:
            raise self.fault
        self.value = value
        self.written.append(value)

    def ceiling(self) -> Ceiling:
        return Ceiling(lambda: self.value, self.write)


@pytest.fixture
def knob() -> Knob:
    return Knob()


def test_one_hold(knob: Knob) -> None:
    ceiling = knob.ceiling()
    hold = ceiling.lower(40)
    assert knob.value == 40
    ceiling.release(hold)
    ceiling.release(hold)
    assert knob.value == 100
    assert knob.written == [40, 100]


def test_nothing_is_ever_raised_above_what_was_found(knob: Knob) -> None:
    ceiling = knob.ceiling()
    hold = ceiling.lower(200)
    assert knob.value == 100
    ceiling.release(hold)
    assert knob.written == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_tightest_open_one_holds_in_any_order_of_ending(knob: Knob, order: tuple[int, ...]) -> None:
    ceiling = knob.ceiling()
    values = [60, 20, 40]
    holds: list[Hold] = []
    for value in values:
        holds.append(ceiling.lower(value))
        assert knob.value == min(hold.value for hold in holds)
    left = dict(enumerate(values))
    for index in order:
        ceiling.release(holds[index])
        del left[index]
        assert knob.value == min([100, *left.values()])


def test_what_the_user_sets_meanwhile_stays(knob: Knob) -> None:
    ceiling = knob.ceiling()
    hold = ceiling.lower(40)
    knob.value = 70
    ceiling.release(hold)
    assert knob.value == 70
    again = ceiling.lower(50)
    ceiling.release(again)
    assert knob.value == 70


def test_what_the_user_sets_inside_is_the_base_of_the_next_hold(knob: Knob) -> None:
    ceiling = knob.ceiling()
    outer = ceiling.lower(40)
    knob.value = 70
    inner = ceiling.lower(60)
    assert knob.value == 40, "the outer one is still open"
    ceiling.release(outer)
    assert knob.value == 60
    ceiling.release(inner)
    assert knob.value == 70


def test_a_forgotten_hold_ends_with_the_next_look(knob: Knob) -> None:
    ceiling = knob.ceiling()
    ceiling.lower(10)
    gc.collect()
    hold = ceiling.lower(50)
    assert knob.value == 50
    ceiling.release(hold)
    assert knob.value == 100


def test_a_limit_that_cannot_be_set_leaves_no_hold(knob: Knob) -> None:
    ceiling = knob.ceiling()
    knob.fault = OSError("no")
    with pytest.raises(OSError, match="no"):
        ceiling.lower(40)
    knob.fault = None
    hold = ceiling.lower(60)
    assert knob.value == 60
    ceiling.release(hold)
    assert knob.value == 100


def test_a_limit_that_is_kept_rounded() -> None:
    knob = Knob()
    ceiling = Ceiling(lambda: knob.value, lambda value: knob.write(round(value)))
    hold = ceiling.lower(40.4)
    ceiling.release(hold)
    assert knob.value == 100


def test_a_forked_child_changes_nothing(knob: Knob, in_child: Callable[[Callable[[], bool]], bool]) -> None:
    ceiling = knob.ceiling()
    hold = ceiling.lower(40)

    def check() -> bool:
        ceiling.release(hold)
        return knob.value == 40

    assert in_child(check)
    ceiling.release(hold)
