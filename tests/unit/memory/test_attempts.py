"""One call: what passes through, what is given back, and what the error says."""

from __future__ import annotations

import functools
import gc
import sys
import weakref
from typing import Any

import pytest
import torch

from titan_nb.errors import ResourceError, SettingsError
from titan_nb.memory import attempts
from titan_nb.memory.attempts import Done, Shortage, attempt, count_of, refuse_later_work, too_small

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total")


class Thing:
    """Something that can be watched dying."""


class FakeAccelerator:
    kind = "cuda"

    def __init__(self) -> None:
        self.emptied = 0
        self.alive_when_emptied: list[bool] = []
        self.watched: weakref.ref[Any] = weakref.ref(Thing())
        self.broken = False

    def empty_cache(self) -> None:
        self.emptied += 1
        self.alive_when_emptied.append(self.watched() is not None)
        if self.broken:
            raise RuntimeError("CUDA error: device-side assert triggered")

    def current_index(self) -> int:
        return 1

    def free_and_total_bytes(self, index: int) -> tuple[int, int]:
        return 1024 * (index + 1), 2**20


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeAccelerator:
    found = FakeAccelerator()
    monkeypatch.setattr(attempts, "accelerator", lambda: found)
    return found


def test_what_ends_well_touches_nothing(gpu: FakeAccelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "collect", lambda: pytest.fail("nothing was short"))
    assert attempt(divmod, 7, 2) == Done((3, 1))
    assert gpu.emptied == 0


@pytest.mark.parametrize(
    "error", [ValueError("x"), RuntimeError("other"), KeyboardInterrupt(), SystemExit(3)]
)
def test_every_other_error_passes_through_unchanged(gpu: FakeAccelerator, error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        attempt(fail)
    assert raised.value is error
    assert (error.__cause__, error.__context__) == (None, None)
    assert gpu.emptied == 0


@pytest.mark.parametrize(
    "error",
    [
        OUT_OF_MEMORY,
        MemoryError(),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        ResourceError("short", requested_bytes=1, available_bytes=None, device="cuda:3"),
    ],
    ids=["cuda", "python", "cpu", "titan"],
)
def test_the_cache_is_emptied_when_the_variables_are_dead(gpu: FakeAccelerator, error: Exception) -> None:
    def fail() -> None:
        held, caught = Thing(), []
        gpu.watched = weakref.ref(held)
        caught.append(caught)  # only the collector finds these
        try:
            raise error
        except Exception as again:
            caught.append(again)
            raise

    ended = attempt(fail, keep_error=True)
    assert isinstance(ended, Shortage)
    assert ended.error is error
    assert gpu.alive_when_emptied == [False], "an error that is kept holds no frame"


def test_an_error_that_nobody_keeps_takes_its_variables_with_it(gpu: FakeAccelerator) -> None:
    def fail() -> None:
        held = Thing()
        gpu.watched = weakref.ref(held)
        mine = MemoryError()
        held.error = mine  # type: ignore[attr-defined]
        raise mine

    assert attempt(fail) == Shortage(None)
    assert gpu.alive_when_emptied == [False]


def test_a_kept_error_loses_the_frames_of_all_it_came_from(gpu: FakeAccelerator) -> None:
    def fail() -> None:
        held = Thing()
        gpu.watched = weakref.ref(held)
        try:
            raise OSError("first")
        except OSError as first:
            raise MemoryError("second") from first

    ended = attempt(fail, keep_error=True)
    assert isinstance(ended, Shortage)
    assert isinstance(ended.error, MemoryError)
    assert isinstance(ended.error.__cause__, OSError)
    assert ended.error.__traceback__ is ended.error.__cause__.__traceback__ is None
    assert gpu.alive_when_emptied == [False]


def test_what_the_caller_is_handling_keeps_its_traceback(gpu: FakeAccelerator) -> None:
    def fail() -> None:
        raise MemoryError

    own = KeyError("the user's own")
    try:
        raise own
    except KeyError:
        ended = attempt(fail, keep_error=True)
    assert isinstance(ended, Shortage)
    assert ended.error is not None
    assert ended.error.__context__ is own
    assert own.__traceback__ is not None


def test_an_error_that_is_not_kept_is_not_touched(gpu: FakeAccelerator) -> None:
    mine = MemoryError()

    def fail() -> None:
        raise mine

    attempt(fail)
    assert mine.__traceback__ is not None


def test_a_gpu_that_breaks_while_it_is_emptied_is_left_to_the_next_attempt(gpu: FakeAccelerator) -> None:
    gpu.broken = True

    def fail() -> None:
        raise MemoryError

    assert attempt(fail) == Shortage(None)
    assert gpu.emptied == 1


class TestTheError:
    def test_of_a_gpu_that_is_named(self, gpu: FakeAccelerator) -> None:
        error = torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 3 has a total capacity of 1 GiB"
        )
        failure = too_small("the test", Shortage(error), "buy more")
        assert (failure.requested_bytes, failure.available_bytes, failure.device) == (2 << 30, 4096, "cuda:3")
        assert str(failure) == (
            "memory is short on cuda:3 for the test: it asked for 2.0 GiB, 4.0 KiB are free; buy more"
        )
        assert failure.__cause__ is error

    def test_of_a_gpu_that_is_not_named(self, gpu: FakeAccelerator) -> None:
        failure = too_small("it", Shortage(RuntimeError("CUDA error: out of memory")), "x")
        assert (failure.requested_bytes, failure.available_bytes, failure.device) == (None, 2048, "cuda:1")
        assert "it does not say how much" in str(failure)

    @pytest.mark.parametrize(
        "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: you tried to allocate 9 bytes")]
    )
    def test_of_the_host(self, gpu: FakeAccelerator, error: Exception) -> None:
        failure = too_small("it", Shortage(error), "x")
        assert failure.device == "cpu"
        assert failure.available_bytes is not None
        assert failure.available_bytes > 0
        assert failure.requested_bytes == (9 if error.args else None)

    def test_of_another_device_whose_memory_nobody_tells(self, gpu: FakeAccelerator) -> None:
        inner = ResourceError("short", requested_bytes=7, available_bytes=None, device="xpu:0")
        failure = too_small("it", Shortage(inner), "x")
        assert (failure.requested_bytes, failure.available_bytes, failure.device) == (7, None, "xpu:0")
        assert "how much is free is unknown" in str(failure)

    def test_without_a_gpu_it_is_the_host(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(attempts, "accelerator", lambda: None)
        assert too_small("it", Shortage(OUT_OF_MEMORY), "x").device == "cpu"


@pytest.mark.parametrize("value", [0, -1, True, 2.0, "8", None])
def test_counts_that_are_none(value: object) -> None:
    with pytest.raises(SettingsError, match=r"^size is .*: give a whole number, 1 or more$"):
        count_of("size", value)


def test_counts_may_be_of_any_kind_of_whole_number() -> None:
    assert count_of("size", torch.tensor(7)) == 7


class TestLaterWork:
    def test_of_coroutines_and_generators_is_refused(self) -> None:
        async def later() -> None: ...

        def items() -> Any:
            yield 1

        for fn in (later, items, functools.partial(items)):
            with pytest.raises(TypeError, match=r"(later|items) is a coroutine or generator function"):
                refuse_later_work(fn)

    def test_of_what_a_plain_function_runs_is_not(self) -> None:
        async def later() -> None: ...

        @functools.wraps(later)
        def runs() -> None: ...

        refuse_later_work(runs)
        refuse_later_work(print)

    def test_what_cannot_be_called_is_refused(self) -> None:
        with pytest.raises(TypeError, match="a int cannot be called"):
            refuse_later_work(5)


def test_python_alone_needs_no_torch() -> None:
    import subprocess

    code = (
        "import sys; from titan_nb.memory.batching import fit_batch\n"
        "def f(n):\n    if n > 2: raise MemoryError\n    return n\n"
        "assert fit_batch(f, start=8).value == 2\n"
        "assert not {'torch', 'numpy', 'pandas'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
