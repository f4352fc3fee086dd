from __future__ import annotations

import copy
import gc
import inspect
import threading
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.memory.counters import Counters
from titan_nb.memory.accelerator import Accelerator, Gateway, accelerator
from titan_nb.memory.marks import Marks
from titan_nb.memory.peaks import Peaks
from titan_nb.memory.user_peaks import UserPeaks, own_look, raised
from titan_nb.records import DeviceMemory

GPU = "gpu:cuda0"
NAMES = (
    "_cuda_memoryStats",
    "_cuda_resetPeakMemoryStats",
    "_accelerator_getDeviceStats",
    "_accelerator_resetPeakStats",
)


pytestmark = pytest.mark.usefixtures("no_gpu")


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    found = Counters()
    found.connect(monkeypatch, "cuda")
    return found


@pytest.fixture
def peaks(counters: Counters) -> Iterator[Peaks]:
    found = Peaks(marks=Marks())
    yield found
    found.close()


def row(scope: Any, key: str = GPU) -> DeviceMemory:
    found: DeviceMemory = scope.close().devices[key]
    return found


def reads(index: int = 0) -> list[Any]:
    """All that a program can read of the peaks of one device."""
    return [
        torch.cuda.max_memory_allocated(index),
        torch.cuda.max_memory_reserved(index),
        torch.cuda.memory_stats(index),
        torch.cuda.memory_stats_as_nested_dict(index),
        torch.cuda.memory_summary(index),
        torch.accelerator.max_memory_allocated(index),
        torch.accelerator.max_memory_reserved(index),
        torch.accelerator.memory_stats(index),
    ]


def test_all_readers_give_what_they_would_without_titan(counters: Counters, peaks: Peaks) -> None:
    counters.hold(100, 160)
    counters.hold(30, 40)
    counters.blip(7, index=1)
    expected = [reads(0), reads(1)]
    assert torch.cuda.max_memory_allocated() == 7  # The current device is the second one.
    scope = peaks.open()
    assert counters.peaks[0] == [30, 40]
    assert [reads(0), reads(1)] == expected
    scope.close()
    assert [reads(0), reads(1)] == expected
    assert torch.cuda.max_memory_allocated() == 7
    assert torch.cuda.max_memory_allocated(torch.device("cuda:0")) == 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert torch.cuda.max_memory_cached(0) == 160


def test_the_user_sees_a_new_peak_of_the_open_window(counters: Counters, peaks: Peaks) -> None:
    counters.blip(10)
    scope = peaks.open()
    counters.blip(500)
    assert torch.cuda.max_memory_allocated(0) == 500
    assert row(scope).peak_bytes == 500
    assert torch.cuda.max_memory_allocated(0) == 500


@pytest.mark.parametrize("module", ["cuda", "accelerator"])
def test_a_reset_in_the_window_costs_it_nothing(counters: Counters, peaks: Peaks, module: str) -> None:
    user = getattr(torch, module)
    outer = peaks.open()
    counters.blip(100)
    inner = peaks.open()
    counters.blip(80)
    user.reset_peak_memory_stats(0)
    assert user.max_memory_allocated(0) == 0
    counters.blip(30)
    assert user.max_memory_allocated(0) == 30
    assert row(inner).peak_bytes == 80
    assert row(outer).peak_bytes == 100
    assert user.max_memory_allocated(0) == 30


def test_a_reset_is_of_one_device(counters: Counters, peaks: Peaks) -> None:
    counters.blip(100, index=0)
    counters.blip(200, index=1)
    scope = peaks.open()
    torch.cuda.reset_peak_memory_stats(0)
    assert [torch.cuda.max_memory_allocated(index) for index in (0, 1)] == [0, 200]
    scope.close()


def test_names_imported_before_see_it_too(counters: Counters, peaks: Peaks) -> None:
    from torch.cuda import max_memory_allocated, reset_peak_memory_stats
    from torch.cuda.memory import reset_max_memory_allocated

    counters.blip(100)
    scope = peaks.open()
    assert max_memory_allocated(0) == 100
    counters.blip(60)
    reset_peak_memory_stats(0)
    assert max_memory_allocated(0) == 0
    assert row(scope).peak_bytes == 60
    scope = peaks.open()
    counters.blip(50)
    with pytest.warns(FutureWarning):
        reset_max_memory_allocated(0)
    assert row(scope).peak_bytes == 50


def test_an_intel_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters()
    counters.connect(monkeypatch, "xpu")
    peaks = Peaks(marks=Marks())
    counters.blip(100)
    scope = peaks.open()
    assert torch.xpu.max_memory_allocated(0) == 100
    counters.blip(70)
    torch.xpu.reset_peak_memory_stats(0)
    assert torch.xpu.max_memory_allocated(0) == 0
    found = row(scope, "gpu:xpu0")
    assert (found.peak_bytes, found.source) == (70, "torch XPU allocator")
    peaks.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_schedule(data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        counters, twin = Counters(), Counters()
        counters.connect(patch, "cuda")
        peaks = Peaks(marks=Marks())
        truth: dict[Any, int] = {}
        steps = st.sampled_from(["hold", "blip", "open", "close", "reset", "accelerator"])
        for step in data.draw(st.lists(steps, max_size=30)):
            size = data.draw(st.integers(0, 100))
            if step == "hold":
                counters.hold(size)
                twin.hold(size)
            elif step == "blip":
                counters.blip(size)
                twin.blip(size)
                truth = {scope: max(peak, twin.allocated[0] + size) for scope, peak in truth.items()}
            elif step == "open":
                truth[peaks.open(exact_host=False)] = twin.allocated[0]
            elif step == "close" and truth:
                scope = data.draw(st.sampled_from(list(truth)))
                assert row(scope).peak_bytes == truth.pop(scope)
            elif step == "reset":
                torch.cuda.reset_peak_memory_stats(0)
                twin.reset(0)
            elif step == "accelerator":
                torch.accelerator.reset_peak_memory_stats(0)
                twin.reset(0)
            truth = {scope: max(peak, twin.allocated[0]) for scope, peak in truth.items()}
            assert torch.cuda.memory_stats_as_nested_dict(0) == twin.statistics(0)
        peaks.close()
        assert torch.cuda.memory_stats_as_nested_dict(0) == twin.statistics(0)


def test_signatures_docstrings_and_errors_stay(counters: Counters, peaks: Peaks) -> None:
    readers = (torch.cuda.max_memory_allocated, torch.cuda.reset_peak_memory_stats)
    before = [(inspect.signature(one), one.__doc__, one) for one in readers]
    scope = peaks.open()
    readers = (torch.cuda.max_memory_allocated, torch.cuda.reset_peak_memory_stats)
    assert [(inspect.signature(one), one.__doc__, one) for one in readers] == before
    for call in readers:
        with pytest.raises(RuntimeError, match="Invalid device argument"):
            call(9)
        with pytest.raises(ValueError, match="Expected a cuda device"):
            call("cpu")
        with pytest.raises(TypeError):
            call(0, 1)  # type: ignore[call-arg]
    assert torch._C._cuda_memoryStats.__name__ == "statistics"
    assert row(scope).peak_bytes == 0


def test_a_reset_that_fails_forgets_nothing(counters: Counters, peaks: Peaks) -> None:
    counters.blip(100)
    scope = peaks.open()
    with pytest.raises(RuntimeError):
        torch.cuda.reset_peak_memory_stats(9)
    assert torch.cuda.max_memory_allocated(0) == 100
    scope.close()


def test_nothing_is_replaced_twice_and_all_is_given_back(counters: Counters) -> None:
    originals = [getattr(torch._C, name) for name in NAMES]
    peaks = Peaks(marks=Marks())
    peaks.open().close()
    replaced = [getattr(torch._C, name) for name in NAMES]
    assert all(ours is not theirs for ours, theirs in zip(replaced, originals, strict=True))
    peaks.open().close()
    assert [getattr(torch._C, name) for name in NAMES] == replaced
    peaks.close()
    assert [getattr(torch._C, name) for name in NAMES] == originals


def test_they_stay_until_the_user_resets(counters: Counters) -> None:
    originals = [getattr(torch._C, name) for name in NAMES]
    counters.blip(100)
    peaks = Peaks(marks=Marks())
    peaks.open().close()
    peaks.close()
    assert torch.cuda.max_memory_allocated(0) == 100
    torch.cuda.reset_peak_memory_stats(0)
    assert torch.cuda.max_memory_allocated(0) == 0
    assert [getattr(torch._C, name) for name in NAMES] == originals


def test_a_scope_that_outlives_its_peaks_still_sees_a_reset(counters: Counters) -> None:
    peaks = Peaks(marks=Marks())
    scope = peaks.open()
    peaks.close()
    counters.blip(100)
    torch.cuda.reset_peak_memory_stats(0)
    assert row(scope).peak_bytes == 100


def test_a_patch_of_others_over_ours_works_on(
    counters: Counters, peaks: Peaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters.blip(100)
    peaks.open().close()
    calls: list[int] = []
    ours = torch._C._cuda_memoryStats

    def theirs(index: int) -> Any:
        calls.append(index)
        return ours(index)

    with monkeypatch.context() as patch:
        patch.setattr(torch._C, "_cuda_memoryStats", theirs)
        scope = peaks.open()
        assert torch.cuda.max_memory_allocated(0) == 100
        assert calls
        counters.blip(300)
        assert row(scope).peak_bytes == 300
    assert torch.cuda.max_memory_allocated(0) == 300
    peaks.close()
    torch.cuda.reset_peak_memory_stats(0)
    assert torch.cuda.max_memory_allocated(0) == 0


def test_a_patch_that_took_ours_away_is_no_end(counters: Counters, peaks: Peaks) -> None:
    original = torch._C._cuda_memoryStats
    counters.blip(100)
    peaks.open().close()
    torch._C._cuda_memoryStats = original  # type: ignore[assignment]
    counters.blip(40)
    scope = peaks.open()
    assert torch.cuda.max_memory_allocated(0) == 100
    scope.close()


def test_the_users_own_patch_of_the_public_function(
    counters: Counters, peaks: Peaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters.blip(100)
    real = torch.cuda.max_memory_allocated
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device=None: real(device) / 2)
    scope = peaks.open()
    assert torch.cuda.max_memory_allocated(0) == 50
    scope.close()
    assert torch.cuda.max_memory_allocated(0) == 50


def test_two_at_once(counters: Counters, peaks: Peaks) -> None:
    counters.blip(100)
    other = Peaks(marks=Marks())
    peaks.open().close()
    other.open().close()
    scope = other.open()
    assert torch.cuda.max_memory_allocated(0) == 100
    counters.blip(50)
    torch.cuda.reset_peak_memory_stats(0)
    assert torch.cuda.max_memory_allocated(0) == 0
    assert row(scope).peak_bytes == 50
    other.close()


def test_a_forked_child_reads_the_same(
    counters: Counters, peaks: Peaks, in_child: Callable[[Callable[[], bool]], bool]
) -> None:
    counters.blip(100)
    scope = peaks.open()
    counters.blip(60)

    def child() -> bool:
        before = torch.cuda.max_memory_allocated(0)
        torch.cuda.reset_peak_memory_stats(0)
        return (before, torch.cuda.max_memory_allocated(0)) == (100, 0)

    assert in_child(child)
    assert row(scope).peak_bytes == 60


def test_a_reset_while_another_thread_is_stuck_in_the_counter(
    counters: Counters, peaks: Peaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    scope = peaks.open()
    counters.blip(100)
    stuck, release = threading.Event(), threading.Event()

    def stay() -> None:
        stuck.set()
        release.wait(10)

    thread = threading.Thread(target=lambda: peaks._marks.locked(stay, None))
    thread.start()
    assert stuck.wait(10)
    torch.cuda.reset_peak_memory_stats(0)
    release.set()
    thread.join(10)
    assert torch.cuda.max_memory_allocated(0) == 0
    assert GPU not in scope.close().devices  # Its peak is gone, so nothing is said.
    assert "another thread" in peaks.failures["torch CUDA allocator"]


def test_threads(counters: Counters, peaks: Peaks) -> None:
    counters.hold(50)
    counters.blip(100)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                peaks.open(exact_host=False).close()
                assert torch.cuda.max_memory_allocated(0) == 150
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


def test_our_own_look_is_raw_and_ends(counters: Counters, peaks: Peaks) -> None:
    counters.blip(100)
    peaks.open().close()

    def look() -> None:
        with own_look():
            with own_look():
                assert torch.cuda.max_memory_allocated(0) == 0
            assert torch.cuda.max_memory_allocated(0) == 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look()
    assert torch.cuda.max_memory_allocated(0) == 100


def test_no_window_and_no_peaks_are_kept_alive(counters: Counters) -> None:
    peaks = Peaks(marks=Marks())
    scope = peaks.open()
    marks = peaks._marks
    del scope
    gc.collect()
    assert len(marks.scopes) == 0
    peaks.close()


def backend(monkeypatch: pytest.MonkeyPatch, counters: Counters, whole: bool) -> Any:
    """Register a maker's own backend, with memory functions of its own if ``whole``."""
    home = ModuleType("maker.memory")
    code = """
def memory_stats_as_nested_dict(device=None):
    return library.statistics(1 if device is None else torch.device(device).index)
def reset_peak_memory_stats(device=None):
    library.reset(1 if device is None else torch.device(device).index)
def max_memory_allocated(device=None):
    return memory_stats_as_nested_dict(device)["allocated_bytes"]["all"]["peak"]
"""
    library = SimpleNamespace(statistics=counters.statistics, reset=counters.reset)
    home.__dict__.update(library=library, torch=SimpleNamespace(device=device))
    exec(compile(code, "maker", "exec"), home.__dict__)
    monkeypatch.setitem(__import__("sys").modules, "maker.memory", home)
    module = SimpleNamespace(
        is_initialized=lambda: True, device_count=lambda: 2, current_device=lambda: 1, home=home
    )
    if whole:
        for name in ("memory_stats_as_nested_dict", "reset_peak_memory_stats", "max_memory_allocated"):
            setattr(module, name, getattr(home, name))
    monkeypatch.setattr(torch._C, "_get_privateuse1_backend_name", lambda: "maker")
    monkeypatch.setattr(torch, "maker", module, raising=False)
    real = torch.device
    monkeypatch.setattr(torch, "device", lambda one: device(one) if "maker" in str(one) else real(one))
    for name, function in {
        "_accelerator_getDeviceStats": counters.statistics,
        "_accelerator_resetPeakStats": counters.reset,
        "_accelerator_isAllocatorInitialized": lambda: True,
    }.items():
        monkeypatch.setattr(torch._C, name, function)
    return module


def device(one: Any) -> Any:
    return SimpleNamespace(index=one if isinstance(one, int) else int(one.partition(":")[2] or 1))


@pytest.mark.parametrize("whole", [True, False])
def test_a_registered_backend(monkeypatch: pytest.MonkeyPatch, whole: bool) -> None:
    counters = Counters()
    module = backend(monkeypatch, counters, whole)
    peaks = Peaks(marks=Marks())
    counters.blip(100, index=1)
    scope = peaks.open()
    assert torch.accelerator.max_memory_allocated(1) == 100
    if whole:
        from maker.memory import max_memory_allocated  # type: ignore[import-not-found]

        assert max_memory_allocated() == max_memory_allocated("maker:1") == 100
        assert module.memory_stats_as_nested_dict(1)["allocated_bytes"]["all"]["peak"] == 100
        counters.blip(30, index=1)
        module.reset_peak_memory_stats(device="maker")
        assert max_memory_allocated(1) == 0
    else:
        counters.blip(30, index=1)
        torch.accelerator.reset_peak_memory_stats(1)
    found = row(scope, "gpu:maker1")
    assert (found.peak_bytes, found.source) == (30, "torch maker allocator")
    peaks.close()


def test_a_device_that_cannot_be_told_is_left_as_it_is() -> None:
    answers: dict[str, Any] = {"statistics": {"a": {"peak": 1}}}
    owner = SimpleNamespace(read=lambda device: answers["statistics"], reset=lambda device: None)

    class Odd(Accelerator):
        def gateways(self) -> list[Gateway]:
            return [Gateway(owner, "read", resets=False), Gateway(owner, "reset", resets=True)]

        def index(self, device: Any) -> int:
            if device == "odd":
                raise ValueError
            return 0

    user = UserPeaks()
    user.watch(Odd("odd", None))
    user.keep(0, {"a": {"peak": 5}})
    assert owner.read("odd") == {"a": {"peak": 1}}
    assert owner.read(0) == {"a": {"peak": 5}}
    owner.reset("odd")
    assert owner.read(0) == {"a": {"peak": 5}}
    answers["statistics"] = None
    assert owner.read(0) is None


def test_another_accelerator_starts_anew(counters: Counters) -> None:
    user = UserPeaks()
    found = accelerator()
    assert found is not None
    user.watch(found)
    user.keep(0, counters.statistics(0))
    other = Accelerator("xpu", torch.xpu)
    user.watch(other)
    assert user._highest == {}
    assert torch._C._cuda_memoryStats == counters.statistics
    user.leave()


@pytest.mark.parametrize("bad", [None, "5", float("nan"), True, [1]])
def test_nonsense_in_the_statistics_passes_through(bad: Any) -> None:
    statistics = {"a": {"peak": bad, "current": 1}, "b": 7, "c": {"all": {"peak": 3}}}
    before = copy.deepcopy(statistics)
    highest = {"a": {"peak": 9}, "b": {"peak": 9}, "c": {"all": {"peak": bad}}}
    assert repr(raised(statistics, highest)) == repr(before)


def test_raising_copies() -> None:
    statistics = {"a": {"all": {"peak": 3, "current": 2}}, "num_ooms": 1}
    found = raised(statistics, {"a": {"all": {"peak": 9, "current": 8}}, "gone": {"peak": 1}, "num_ooms": 5})
    assert found == {"a": {"all": {"peak": 9, "current": 2}}, "num_ooms": 1}
    assert statistics["a"] == {"all": {"peak": 3, "current": 2}}


def test_a_patch_of_others_is_not_taken_away_with_ours(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = Peaks(marks=Marks())
    peaks.open().close()
    ours = torch._C._cuda_memoryStats

    def theirs(index: int) -> Any:
        return ours(index)

    monkeypatch.setattr(torch._C, "_cuda_memoryStats", theirs)
    peaks.close()
    assert torch._C._cuda_memoryStats is theirs
    counters.blip(70)
    assert torch.cuda.max_memory_allocated(0) == 70


def test_they_stay_while_anybody_measures(counters: Counters) -> None:
    original = torch._C._cuda_memoryStats
    marks = Marks()
    first, second = Peaks(marks=marks), Peaks(marks=marks)
    first.open().close()
    second.open().close()
    first.close()
    assert torch._C._cuda_memoryStats is not original
    second.close()
    assert torch._C._cuda_memoryStats is original


def test_who_comes_back_before_the_users_reset_keeps_them(counters: Counters) -> None:
    original = torch._C._cuda_memoryStats
    peaks = Peaks(marks=Marks())
    counters.blip(100)
    peaks.open().close()
    peaks.close()
    scope = peaks.open()
    torch.cuda.reset_peak_memory_stats(0)
    assert torch._C._cuda_memoryStats is not original
    scope.close()
    peaks.close()
    assert torch._C._cuda_memoryStats is original


def test_a_gpu_that_is_started_and_reset_in_the_window(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "_initialized", False)
    peaks = Peaks(marks=Marks())
    scope = peaks.open()
    monkeypatch.setattr(torch.cuda, "_initialized", True)
    counters.blip(100)
    torch.cuda.reset_peak_memory_stats(0)
    assert torch.cuda.max_memory_allocated(0) == 0
    assert row(scope).peak_bytes == 100
    peaks.close()


def test_a_reset_before_the_start_asks_for_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = Counters()
    module = backend(monkeypatch, counters, whole=True)
    module.is_initialized = lambda: False
    module.current_device = lambda: pytest.fail("this would start it")
    peaks = Peaks(marks=Marks())
    scope = peaks.open()
    module.reset_peak_memory_stats()
    assert counters.resets == 1
    scope.close()
    peaks.close()
