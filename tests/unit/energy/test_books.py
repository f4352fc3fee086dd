from __future__ import annotations

import gc
from typing import Any

import pytest

from titan_nb.energy.books import Books, Stretch
from titan_nb.energy.faults import Faults


class Window:
    """Stands in for a window, of which only the identity matters here."""


@pytest.fixture
def books() -> Any:
    return Books(Faults())


def test_windows_that_follow_one_another_have_gaps_in_between(books: Any) -> None:
    one, other = Window(), Window()
    assert books.begin(one, 1.0) is None
    assert books.end(one, (), 2.0) == (None, True)
    gap = books.begin(other, 5.0)
    assert (gap.started, gap.ended, gap.energy) == (2.0, 5.0, {})


def test_a_window_within_another_makes_no_gap(books: Any) -> None:
    outer, inner = Window(), Window()
    books.begin(outer, 1.0)
    assert books.begin(inner, 2.0) is None
    assert books.end(inner, (), 3.0) == (None, False)
    assert books.end(outer, (), 4.0) == (None, True)


def test_what_goes_on_after_the_first_of_several_is_a_tail(books: Any) -> None:
    first, second, third = Window(), Window(), Window()
    for number, window in enumerate((first, second, third)):
        books.begin(window, float(number))
    tail, last = books.end(first, (), 5.0)
    assert not last
    assert books.end(third, (), 6.0) == (None, False)
    assert books.end(second, (), 7.0) == (tail, True)
    assert (tail.started, tail.ended) == (5.0, 7.0)
    gap = books.begin(Window(), 9.0)
    assert (gap.started, gap.ended) == (7.0, 9.0)


def test_a_window_that_is_gone_is_not_open(books: Any) -> None:
    lost = Window()
    books.begin(lost, 1.0)
    del lost
    gc.collect()
    later = Window()
    books.begin(later, 2.0)
    assert books.end(later, (), 3.0)[1]


def test_a_stretch_tells_once_that_it_is_final() -> None:
    stretch, told = Stretch((), 1.0, Faults(), works=False), []
    stretch.close(2.0)
    stretch.when_final(lambda: told.append(1))
    stretch._settled()
    assert told == [1]
