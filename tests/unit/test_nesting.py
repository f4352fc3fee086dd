from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import pytest

from titan_nb.nesting import Nesting


@dataclass(eq=False)
class Window:
    """What the nesting needs to know of a run."""

    number: int
    thread: int = 0
    cell: object = None
    shared: bool = False


class Stage:
    """Windows that open and close; numbered in the order in which they open."""

    def __init__(self) -> None:
        self.nesting = Nesting()
        self.opened = 0

    def open(self, **kwargs: Any) -> Window:
        self.opened += 1
        window = Window(self.opened, **kwargs)
        self.nesting.enter(window)  # type: ignore[arg-type]
        return window

    def close(self, window: Window) -> int | None:
        return self.nesting.leave(window)  # type: ignore[arg-type]


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_blocks_in_one_thread_nest(stage: Stage) -> None:
    outer, middle, inner = stage.open(), stage.open(), stage.open()
    assert [stage.close(window) for window in (inner, middle, outer)] == [2, 1, None]
    assert not any(window.shared for window in (outer, middle, inner))


def test_blocks_of_threads_inside_a_cell_are_part_of_it(stage: Stage) -> None:
    cell = stage.open(cell="cell")
    one, two = stage.open(thread=1), stage.open(thread=2)
    assert stage.close(one) == cell.number
    assert stage.close(two) == cell.number
    assert stage.close(cell) is None
    assert (one.shared, two.shared, cell.shared) == (True, True, False)


def test_overlapping_coroutines_are_two_shared_windows(stage: Stage) -> None:
    first, second = stage.open(), stage.open()
    assert stage.close(first) is None
    assert stage.close(second) is None
    assert first.shared
    assert second.shared


def test_a_cell_lies_in_no_block_that_a_generator_keeps_open(stage: Stage) -> None:
    first = stage.open(cell="one")
    suspended = stage.open()
    assert stage.close(first) is None
    second = stage.open(cell="two")
    block = stage.open()
    assert stage.close(block) == second.number
    assert stage.close(second) is None
    assert stage.close(suspended) is None
    assert (first.shared, second.shared, suspended.shared) == (False, False, True)


def test_a_cell_of_a_subshell_inside_another_cell(stage: Stage) -> None:
    main, sub = stage.open(cell="main"), stage.open(cell="sub", thread=1)
    assert stage.close(sub) == main.number
    assert stage.close(main) is None
    assert main.shared
    assert sub.shared


def test_a_block_beside_the_block_of_another_thread_shares(stage: Stage) -> None:
    cell = stage.open(cell="cell")
    mine, theirs = stage.open(), stage.open(thread=1)
    assert stage.close(theirs) == cell.number
    assert stage.close(mine) == cell.number
    assert mine.shared


def test_a_window_that_is_given_up_is_not_open(stage: Stage) -> None:
    lost = stage.open()
    del lost
    gc.collect()
    later = stage.open()
    assert stage.close(later) is None


def test_leaving_twice_is_leaving_once(stage: Stage) -> None:
    outer, inner = stage.open(), stage.open()
    assert stage.close(inner) == outer.number
    assert stage.close(inner) is None
