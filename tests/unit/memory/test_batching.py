"""Which sizes are tried, what is said of the failed ones, and what is remembered."""

from __future__ import annotations

import functools
import gc
import itertools
import random
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from titan_nb.errors import ResourceError, SettingsError
from titan_nb.memory import attempts, batching
from titan_nb.memory.batching import BatchFit, fit_batch


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No size is known from other tests, and no fake accelerator."""
    monkeypatch.setattr(batching, "_sizes", batching._Sizes())
    monkeypatch.setattr(attempts, "accelerator", lambda: None)


def room_for(most: int, tried: list[int] | None = None) -> Callable[..., str]:
    """Return a function that has memory for batches of ``most``."""

    def train(batch_size: int, *_: Any) -> str:
        if tried is not None:
            tried.append(batch_size)
        if batch_size > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return f"fitted {batch_size}"

    return train


def test_the_first_size_that_fits_is_kept() -> None:
    assert fit_batch(room_for(100), start=64) == BatchFit("fitted 64", 64)


def test_a_size_that_does_not_fit_is_halved() -> None:
    found = fit_batch(room_for(10), start=64)
    assert found == BatchFit("fitted 8", 8, failed_sizes=(64, 32, 16))
    assert "fitted" not in repr(found), "a large result stays out of the notebook"


@given(start=st.integers(1, 10**6), share=st.floats(0, 1), most=st.integers(0, 10**6))
def test_any_sizes(start: int, share: float, most: int) -> None:
    minimum = max(1, int(start * share))
    tried: list[int] = []
    train = room_for(most, tried)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempts, "gc", SimpleNamespace(collect=lambda: 0))  # a fifth of a second each time
        if most < minimum:
            with pytest.raises(ResourceError):
                fit_batch(train, start=start, minimum=minimum)
            assert tried[-1] == minimum
        else:
            assert fit_batch(train, start=start, minimum=minimum).batch_size == tried[-1] <= most
    assert all(size > most for size in tried[:-1])
    assert tried[0] == start
    assert all(after == max(minimum, before // 2) for before, after in itertools.pairwise(tried))


def test_arguments_follow_the_size() -> None:
    def train(batch_size: int, model: str, rate: float) -> tuple[int, str, float]:
        return batch_size, model, rate

    assert fit_batch(train, "model", 0.5, start=3).value == (3, "model", 0.5)


def test_too_little_memory_for_the_minimum() -> None:
    held: list[weakref.ref[Any]] = []

    def train(batch_size: int) -> None:
        data = torch.ones(batch_size)
        held.append(weakref.ref(data))
        log.append(batch_size)
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    log: list[int] = []
    with pytest.raises(ResourceError) as raised:
        fit_batch(train, start=6, minimum=3)
    error = raised.value
    assert log == [6, 3]
    assert error.requested_bytes == 2 << 30
    assert error.available_bytes is not None
    assert str(error).startswith(
        "memory is short on cpu for train with a batch size of 3: it asked for 2.0 GiB, "
    )
    assert "the failed attempts have changed: batch size 6: " in str(error)
    assert "batch size 3: log: 1 element more" in str(error)
    assert isinstance(error.__cause__, torch.OutOfMemoryError)
    assert error.__cause__.__traceback__ is None
    assert [reference() for reference in held] == [None, None], "while the error is held, the data is not"


def test_an_attempt_begins_when_the_last_one_s_memory_is_back() -> None:
    held: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def train(batch_size: int) -> None:
        alive.append(sum(reference() is not None for reference in held))
        data = torch.ones(batch_size)
        held.append(weakref.ref(data))
        if batch_size > 2:
            try:
                raise MemoryError
            except MemoryError as error:
                mine = error  # a cycle with this very frame
                raise mine from None

    fit_batch(train, start=16)
    assert alive == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), ValueError("x"), RuntimeError("CUDNN_STATUS_NOT_SUPPORTED")]
)
def test_every_other_error_passes_through(error: BaseException) -> None:
    tried: list[int] = []

    def train(batch_size: int) -> None:
        tried.append(batch_size)
        raise MemoryError if batch_size > 4 else error

    optimizer = torch.optim.SGD([torch.ones(1)])
    with pytest.raises(type(error)) as raised:
        fit_batch(train, start=8, state={"optimizer": optimizer})
    assert raised.value is error
    assert error.__context__ is None
    assert tried == [8, 4]
    assert not optimizer._optimizer_step_post_hooks


class TestSideEffects:
    def test_each_failed_attempt_is_told_and_the_good_one_is_not(self) -> None:
        log: list[int] = []

        def train(batch_size: int) -> None:
            log.append(batch_size)
            if batch_size > 4:
                raise MemoryError

        assert fit_batch(train, start=16).side_effects == (
            "batch size 16: log: 1 element more",
            "batch size 8: log: 1 element more",
        )

    def test_of_objects_in_the_state(self) -> None:
        hidden = torch.ones(1)
        box = iter([hidden] * 10)

        def train(batch_size: int) -> None:
            next(box).add_(1)
            if batch_size > 1:
                raise MemoryError

        assert fit_batch(train, start=2).side_effects == ()
        found = fit_batch(train, start=2, remember=False, state={"weight": hidden})
        assert found.side_effects == ("batch size 2: weight: at least 1 tensor changed in place",)

    @pytest.mark.parametrize("restore_rng", [True, False])
    def test_random_numbers(self, restore_rng: bool) -> None:
        drawn: dict[int, list[float]] = {}

        def train(batch_size: int) -> None:
            drawn[batch_size] = [random.random(), np.random.rand(), float(torch.rand(1))]
            if batch_size > 1:
                raise MemoryError

        found = fit_batch(train, start=4, restore_rng=restore_rng)
        assert (drawn[4] == drawn[2] == drawn[1]) is restore_rng
        told = [text for text in found.side_effects if "random numbers" in text]
        assert told == (
            []
            if restore_rng
            else [f"batch size {size}: random numbers drawn: random, numpy, torch" for size in (4, 2)]
        )

    def test_random_numbers_are_back_after_the_last_failure_too(self) -> None:
        before = random.getstate()

        def train(batch_size: int) -> None:
            random.random()
            raise MemoryError

        with pytest.raises(ResourceError):
            fit_batch(train, start=2, restore_rng=True)
        assert random.getstate() == before


class TestMemory:
    def test_the_next_call_begins_with_what_fitted(self) -> None:
        tried: list[int] = []
        train = room_for(10, tried)
        assert not fit_batch(train, start=64).remembered
        tried.clear()
        found = fit_batch(train, start=64)
        assert (tried, found.batch_size, found.remembered) == ([8], 8, True)
        assert fit_batch(train, start=4).batch_size == 4, "never more than asked for"
        assert fit_batch(train, start=64).batch_size == 4
        assert fit_batch(train, start=64, minimum=6).batch_size == 6, "never less than allowed"
        tried.clear()
        assert not fit_batch(train, start=64, remember=False).remembered
        assert tried[0] == 64

    def test_other_shapes_begin_anew(self) -> None:
        train = room_for(100)
        fit_batch(train, torch.ones(3), 5, start=64)
        assert fit_batch(train, torch.ones(3), 5, start=64).remembered
        others: list[tuple[Any, ...]] = [
            (torch.ones(4), 5),
            (torch.ones(3, dtype=torch.float64), 5),
            (torch.ones(3), 6),
            (np.ones(3), 5),
            ([1, 2, 3], 5),
            (torch.nn.Linear(3, 1), 5),
            (torch.nn.Linear(3, 2), 5),
            (object(), 5),
        ]
        for args in others:
            assert not fit_batch(train, *args, start=64).remembered
        for args in others:
            assert fit_batch(train, *args, start=64).remembered

    def test_what_a_run_leaves_behind_does_not_make_it_another_one(self) -> None:
        weight = torch.ones(3, requires_grad=True)
        optimizer, losses = torch.optim.Adam([weight]), []

        def train(batch_size: int) -> None:
            loss = (weight * batch_size).sum()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())

        fit_batch(train, start=8)
        assert fit_batch(train, start=8).remembered

    def test_methods_of_two_objects_are_two_functions(self) -> None:
        class Trainer:
            def fit(self, batch_size: int) -> int:
                return batch_size

        one, other = Trainer(), Trainer()
        fit_batch(one.fit, start=8)
        assert fit_batch(one.fit, start=8).remembered
        assert fit_batch(functools.partial(one.fit), start=8).remembered
        assert not fit_batch(other.fit, start=8).remembered

    def test_a_function_that_is_gone_is_not_mistaken(self) -> None:
        sizes = batching._Sizes()
        train = room_for(1)
        sizes.keep((train,), 7, 16)
        assert sizes.find((train,), 7) == 16
        ((key, kept),) = sizes._known.items()
        reference = kept[0][0]
        del train
        gc.collect()
        assert reference() is None, "it is not kept alive"
        other = room_for(1)
        sizes._known = {(id(other), key[1]): kept}  # as if at the address of the one that is gone
        assert sizes.find((other,), 7) is None

    def test_no_more_than_so_many_are_kept(self) -> None:
        sizes = batching._Sizes()
        train = room_for(1)
        for number in range(1000):
            sizes.keep((train,), number, number + 1)
        assert len(sizes._known) == 256
        assert sizes.find((train,), 999) == 1000
        assert sizes.find((train,), 0) is None

    def test_of_a_c_function_nothing_is_kept(self) -> None:
        class Still:
            __slots__ = ()

            def __call__(self, batch_size: int) -> int:
                return batch_size

        still = Still()
        assert not fit_batch(still, start=8).remembered
        assert not fit_batch(still, start=8).remembered


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0}, "start is 0: give a whole number, 1 or more"),
        ({"start": 2.5}, r"start is 2\.5"),
        ({"start": 4, "minimum": 0}, "minimum is 0"),
        ({"start": 4, "minimum": 5}, "minimum is 5, above start, which is 4"),
    ],
)
def test_numbers_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        fit_batch(room_for(1), **options)


def test_coroutines_are_refused() -> None:
    async def train(batch_size: int) -> None: ...

    with pytest.raises(TypeError, match="train is a coroutine or generator function"):
        fit_batch(train, start=4)


def test_one_inside_another_shrinks_the_outer_one() -> None:
    tried: list[tuple[int, int]] = []

    def outer(batch_size: int) -> int:
        def inner(size: int) -> int:
            tried.append((batch_size, size))
            if batch_size * size > 4:
                raise MemoryError
            return size

        return fit_batch(inner, start=4, minimum=2, remember=False).value

    found = fit_batch(outer, start=4)
    assert (found.batch_size, found.value) == (2, 2)
    assert tried == [(4, 4), (4, 2), (2, 4), (2, 2)]
