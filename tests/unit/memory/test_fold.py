from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.memory.fold import Extent, Fold, Level, Window


class FakeMark:
    """One counter of one device, with the whole truth beside it."""

    def __init__(self) -> None:
        self.current = 0
        self.peak = 0
        self.fault: Any = None

    def set(self, current: int) -> None:
        self.current = current
        self.peak = max(self.peak, current)

    def take(self) -> dict[str, Level]:
        level = Level(self.current, self.peak)
        self.peak = self.current
        if isinstance(self.fault, BaseException):
            raise self.fault
        return {"dev": level if self.fault is None else self.fault}


def test_nested_windows_are_exact() -> None:
    mark = FakeMark()
    fold = Fold(mark)
    outer = fold.open()
    mark.set(100)
    mark.set(20)
    inner = fold.open()
    mark.set(50)
    mark.set(30)
    assert fold.close(inner) == {"dev": Extent(20, 50, 30)}
    assert fold.close(outer) == {"dev": Extent(0, 100, 30)}


def test_overlapping_windows_are_exact() -> None:
    mark = FakeMark()
    fold = Fold(mark)
    first = fold.open()
    mark.set(80)
    mark.set(10)
    second = fold.open()
    mark.set(60)
    mark.set(10)
    assert fold.close(first) == {"dev": Extent(0, 80, 10)}
    mark.set(40)
    assert fold.close(second) == {"dev": Extent(10, 60, 40)}


def test_a_peak_before_the_window_does_not_count() -> None:
    mark = FakeMark()
    fold = Fold(mark)
    mark.set(500)
    mark.set(5)
    window = fold.open()
    assert fold.close(window) == {"dev": Extent(5, 5, 5)}


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_schedule_gives_the_true_peak_of_every_window(data: st.DataObject) -> None:
    mark = FakeMark()
    fold = Fold(mark)
    truth: dict[Window, list[int]] = {}
    steps = data.draw(st.lists(st.sampled_from(["set", "set", "open", "close"]), max_size=40))
    for step in [*steps, *["close"] * 40]:
        if step == "set":
            mark.set(data.draw(st.integers(0, 1000)))
            for held in truth.values():
                held.append(mark.current)
        elif step == "open":
            truth[fold.open()] = [mark.current]
        elif truth:
            window = data.draw(st.sampled_from(list(truth)))
            held = truth.pop(window)
            assert fold.close(window) == {"dev": Extent(held[0], max(held), held[-1])}


def test_a_device_that_appears_later_held_nothing_before() -> None:
    levels: dict[str, Level] = {}

    class Late:
        def take(self) -> dict[str, Level]:
            return dict(levels)

    fold = Fold(Late())
    outer = fold.open()
    levels["new"] = Level(30, 70)
    inner = fold.open()
    levels["new"] = Level(40, 40)
    assert fold.close(inner) == {"new": Extent(30, 40, 40)}
    assert fold.close(outer) == {"new": Extent(0, 70, 40)}


@pytest.mark.parametrize(
    "fault",
    [
        RuntimeError("lost"),
        MemoryError(),
        Level(None, 1),  # type: ignore[arg-type]
        Level(1, float("nan")),  # type: ignore[arg-type]
        Level(-1, 1),
        Level(2, 1),
        Level(1, 2**63),
        Level(True, 5),
        "nonsense",
    ],
)
def test_a_failing_counter_leaves_its_device_out_and_recovers(fault: Any) -> None:
    mark = FakeMark()
    fold = Fold(mark)
    begun = fold.open()
    mark.fault = fault
    never = fold.open()
    mark.fault = None
    assert fold.failure
    assert fold.close(never) == {}
    assert fold.close(begun) == {}
    again = fold.open()
    mark.set(9)
    assert fold.close(again) == {"dev": Extent(0, 9, 9)}


def test_an_interrupt_passes_and_no_window_says_too_little() -> None:
    mark = FakeMark()
    fold = Fold(mark)
    outer = fold.open()
    mark.set(100)
    mark.fault = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        fold.open()
    mark.fault = None
    # The mark was reset, so the 100 are gone: nothing is better than a peak of 0.
    assert fold.close(outer) == {}


def test_a_dropped_window_is_forgotten() -> None:
    fold = Fold(FakeMark())
    window = fold.open()
    assert len(fold._open) == 1
    del window
    assert len(fold._open) == 0


def test_a_turn_lets_open_windows_see_the_peak_before_somebody_resets_it() -> None:
    mark = FakeMark()
    fold = Fold(mark)
    window = fold.open()
    mark.set(100)
    mark.set(10)
    fold.turn()
    mark.peak = mark.current
    assert fold.close(window) == {"dev": Extent(0, 100, 10)}


def test_a_turn_without_windows_leaves_the_mark_alone() -> None:
    mark = FakeMark()
    mark.set(100)
    mark.set(10)
    Fold(mark).turn()
    assert mark.peak == 100


def test_windows_that_could_not_look_are_given_up() -> None:
    mark = FakeMark()
    fold = Fold(mark)
    window = fold.open()
    fold.lose("reset unseen")
    assert fold.failure == "reset unseen"
    assert fold.close(window) == {}
    assert fold.close(fold.open()) == {"dev": Extent(0, 0, 0)}


def test_the_cache_is_that_of_the_end() -> None:
    levels = {"dev": Level(1, 2, 7)}
    fold = Fold(FakeMark())
    fold._mark = type("Cached", (), {"take": lambda self: dict(levels)})()
    window = fold.open()
    levels["dev"] = Level(1, 5, 9)
    assert fold.close(window) == {"dev": Extent(1, 5, 1, 9)}
