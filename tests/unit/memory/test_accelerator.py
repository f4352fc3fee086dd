from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from titan_nb.memory import accelerator as seam
from titan_nb.memory.accelerator import Accelerator, accelerator, dormant


class Module:
    """Any of torch's modules for a kind of GPU, with what it has and a note of what was called."""

    def __init__(self, started: bool = True, **functions: Any) -> None:
        self.is_initialized = lambda: started
        self.calls: list[tuple[Any, ...]] = []
        for name, answer in functions.items():
            setattr(self, name, self._function(name, answer))

    def _function(self, name: str, answer: Any) -> Any:
        def call(*args: Any) -> Any:
            self.calls.append((name, *args))
            return answer(*args) if callable(answer) else answer

        return call


STATISTICS = {
    "allocated_bytes": {"all": {"current": 10, "peak": 30}},
    "reserved_bytes": {"all": {"current": 25, "peak": 40}},
}


def put(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> Any:
    """Put a torch with only these parts in the place of the real one."""
    c = parts.pop("C", SimpleNamespace(_get_privateuse1_backend_name=lambda: "privateuseone"))
    torch = SimpleNamespace(_C=c, **parts)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


def found(monkeypatch: pytest.MonkeyPatch, **parts: Any) -> Accelerator:
    put(monkeypatch, **parts)
    one = accelerator()
    assert one is not None
    return one


def apple(available: bool = True) -> dict[str, Any]:
    module = SimpleNamespace(
        current_allocated_memory=lambda: 10,
        driver_allocated_memory=lambda: 25,
        empty_cache=lambda: emptied.append("mps"),
        set_per_process_memory_fraction=lambda fraction: emptied.append(fraction),
    )
    emptied: list[Any] = []
    module.emptied = emptied
    mps = SimpleNamespace(is_available=lambda: available)
    return {"mps": module, "backends": SimpleNamespace(mps=mps)}


def test_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert accelerator() is None
    assert "torch" not in sys.modules


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> None:
    monkeypatch.setattr(seam, "_found", None)


@pytest.mark.parametrize(
    "torch",
    [
        SimpleNamespace(),
        SimpleNamespace(cuda=SimpleNamespace(), backends=SimpleNamespace()),
        SimpleNamespace(cuda=Module(started=False), xpu=Module(started=False), _C=SimpleNamespace()),
        SimpleNamespace(**apple(available=False)),
        SimpleNamespace(backends=apple()["backends"]),
    ],
)
def test_half_imported_or_not_started(monkeypatch: pytest.MonkeyPatch, torch: Any) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert accelerator() is None


def test_the_real_torch_without_a_gpu() -> None:
    import torch

    if not torch.cuda.is_initialized():
        assert accelerator() is None
    assert callable(torch._C._get_privateuse1_backend_name)


def test_the_order_and_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    off = Module(started=False)
    c = SimpleNamespace(_get_privateuse1_backend_name=lambda: "maker")
    every = {**{kind: Module() for kind in ("cuda", "xpu", "maker")}, **apple(), "C": c}
    cuda = found(monkeypatch, **every)
    assert (cuda.kind, cuda.source, repr(cuda)) == ("cuda", "torch CUDA allocator", "<Accelerator cuda>")
    assert accelerator() is cuda
    xpu = found(monkeypatch, **every | {"cuda": off})
    assert (xpu.kind, xpu.source, xpu.has_peaks) == ("xpu", "torch XPU allocator", True)
    maker = found(monkeypatch, **every | {"cuda": off, "xpu": off})
    assert (maker.kind, maker.source, maker.has_peaks) == ("maker", "torch maker allocator", True)
    mps = found(monkeypatch, **every | {"cuda": off, "xpu": off, "maker": off})
    assert (mps.kind, mps.source, mps.has_peaks) == ("mps", "torch MPS allocator", False)


def test_a_new_torch_is_a_new_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    first = found(monkeypatch, cuda=Module(device_count=1))
    second = found(monkeypatch, cuda=Module(device_count=2))
    assert (len(first.keys()), len(second.keys())) == (1, 2)


def test_the_keys_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    uuids = [SimpleNamespace(uuid="a1", name="A GPU"), SimpleNamespace(uuid="MIG-b2"), SimpleNamespace()]
    module = Module(device_count=3, get_device_properties=lambda index: uuids[index])
    cuda = found(monkeypatch, cuda=module)
    assert cuda.keys() == {0: "gpu:GPU-a1", 1: "gpu:MIG-b2", 2: "gpu:cuda2"}
    cuda.keys()
    assert [call for call in module.calls if call[0] == "get_device_properties"] == [
        ("get_device_properties", index) for index in range(3)
    ]
    assert (cuda.name(0), cuda.name(1)) == ("A GPU", None)


def test_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Module(
        memory_stats_as_nested_dict=STATISTICS,
        reset_peak_memory_stats=None,
        mem_get_info=(60, 100),
        empty_cache=None,
        get_per_process_memory_fraction=0.5,
        set_per_process_memory_fraction=None,
        current_device=1,
    )
    torch = put(monkeypatch, cuda=module)
    torch.device = lambda text: SimpleNamespace(index=int(text[-1]) if ":" in text else None)
    cuda = accelerator()
    assert cuda is not None
    assert cuda.statistics(1) is STATISTICS
    assert (cuda.allocated_bytes(1), cuda.reserved_bytes(1)) == (10, 25)
    assert cuda.free_and_total_bytes(1) == (60, 100)
    assert cuda.fraction(1) == 0.5
    assert [cuda.index(device) for device in (0, None, "cuda", "cuda:3")] == [0, 1, 1, 3]
    module.calls.clear()
    cuda.reset_peaks(1)
    cuda.set_fraction(0.25, 1)
    cuda.empty_cache()
    assert module.calls == [
        ("reset_peak_memory_stats", 1),
        ("set_per_process_memory_fraction", 0.25, 1),
        ("empty_cache",),
    ]


def test_the_users_device_stays_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch sets and tells the fraction of the current device, and makes the one it sets current for good."""
    current, totals, allowed = [0], (80, 40), [80, 40]

    @contextlib.contextmanager
    def device(index: int) -> Iterator[None]:
        before, current[0] = current[0], index
        yield
        current[0] = before

    def change(fraction: float, index: int) -> None:
        current[0] = index
        allowed[index] = round(fraction * totals[index])

    module = Module(
        memory_stats_as_nested_dict=STATISTICS,
        set_per_process_memory_fraction=change,
        get_per_process_memory_fraction=lambda index: allowed[index] / totals[current[0]],
        device=device,
    )
    c = SimpleNamespace(
        _get_privateuse1_backend_name=lambda: "", _cuda_hasPrimaryContext=lambda index: index < 2
    )
    cuda = found(monkeypatch, cuda=module, C=c)
    assert cuda.fraction(1) == 1.0
    cuda.set_fraction(0.5, 1)
    assert current == [0]
    assert allowed == [80, 20]
    assert cuda.fraction(1) == 0.5
    module.calls.clear()
    cuda.set_fraction(0.5, 0)
    with pytest.raises(IndexError):
        cuda.fraction(2)
    assert ("device", 2) not in module.calls, "nobody uses it, and to make it current would start it"


@pytest.mark.parametrize("known", [True, False])
def test_a_device_that_is_not_in_use_is_not_started(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    empty = {"reserved_bytes": {"all": {"current": 0}}}
    statistics = STATISTICS if known else empty
    module = Module(memory_stats_as_nested_dict=statistics, mem_get_info=(60, 100))
    names = {"_cuda_hasPrimaryContext": lambda index: index == 0} if known else {}
    c = SimpleNamespace(_get_privateuse1_backend_name=lambda: "privateuseone", **names)
    cuda = found(monkeypatch, cuda=module, C=c)
    assert cuda.free_and_total_bytes(1) is None
    assert ("mem_get_info", 1) not in module.calls
    assert cuda.free_and_total_bytes(0) == ((60, 100) if known else None)


def test_a_registered_backend_through_torch_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    c = SimpleNamespace(
        _get_privateuse1_backend_name=lambda: "maker",
        _accelerator_getDeviceStats=lambda index: STATISTICS,
        _accelerator_resetPeakStats=lambda index: calls.append(index),
    )
    generic = SimpleNamespace(
        get_memory_info=lambda index: (70, 100), empty_cache=lambda: calls.append("empty")
    )
    maker = found(monkeypatch, maker=Module(), C=c, accelerator=generic)
    assert maker.keys() == {0: "gpu:maker0"}
    assert (maker.name(0), maker.fraction(0), maker.current_index()) == (None, None, 0)
    assert (maker.allocated_bytes(0), maker.reserved_bytes(0)) == (10, 25)
    assert maker.free_and_total_bytes(0) == (70, 100)
    maker.reset_peaks(0)
    maker.empty_cache()
    assert calls == [0, "empty"]
    with pytest.raises(RuntimeError, match="torch maker allocator cannot be limited"):
        maker.set_fraction(0.5, 0)
    assert [(one.name, one.resets) for one in maker.gateways()] == [
        ("_accelerator_getDeviceStats", False),
        ("_accelerator_resetPeakStats", True),
    ]


def test_an_old_torch_without_the_generic_functions(monkeypatch: pytest.MonkeyPatch) -> None:
    c = SimpleNamespace(_get_privateuse1_backend_name=lambda: "maker")
    maker = found(monkeypatch, maker=Module(), C=c)
    assert maker.free_and_total_bytes(0) is None
    assert maker.gateways() == []
    for action, what in (
        (lambda: maker.statistics(0), "keeps no statistics"),
        (lambda: maker.reset_peaks(0), "cannot be reset"),
        (maker.empty_cache, "cannot be emptied"),
    ):
        with pytest.raises(RuntimeError, match=what):
            action()


def test_apple(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = apple()
    mps = found(monkeypatch, **parts)
    assert mps.keys() == {0: "gpu:mps0"}
    assert (mps.allocated_bytes(0), mps.reserved_bytes(0)) == (10, 25)
    assert mps.free_and_total_bytes(0) is None
    with pytest.raises(RuntimeError, match="MPS allocator keeps no statistics"):
        mps.statistics(0)
    mps.empty_cache()
    mps.set_fraction(0.5, 0)
    assert parts["mps"].emptied == ["mps", 0.5]
    assert (mps.fraction(0), mps.current_index()) == (None, 0)


def test_the_gateways_of_a_backend_with_functions_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory_stats_as_nested_dict(device: Any = None) -> None: ...

    memory_stats_as_nested_dict.__module__ = "maker_memory"
    home = SimpleNamespace(memory_stats_as_nested_dict=memory_stats_as_nested_dict)
    monkeypatch.setitem(sys.modules, "maker_memory", home)  # type: ignore[arg-type]
    module = Module()
    module.memory_stats_as_nested_dict = memory_stats_as_nested_dict  # type: ignore[attr-defined]
    c = SimpleNamespace(_get_privateuse1_backend_name=lambda: "maker")
    gateways = found(monkeypatch, maker=module, C=c).gateways()
    assert [(one.owner, one.name) for one in gateways] == [
        (home, "memory_stats_as_nested_dict"),
        (module, "memory_stats_as_nested_dict"),
    ]


def test_asking_for_a_missing_backend_runs_no_code_of_torch() -> None:
    import torch

    asked: list[str] = []
    real = torch.__getattr__
    vars(torch)["__getattr__"] = lambda name: asked.append(name) or real(name)
    try:
        accelerator()
    finally:
        vars(torch)["__getattr__"] = real
    assert asked == []


def test_a_device_that_is_added_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter([1, 2])
    maker = found(monkeypatch, cuda=Module(device_count=lambda: next(counts)))
    assert [len(maker.keys()), len(maker.keys())] == [1, 2]


def test_one_that_the_user_may_still_start(monkeypatch: pytest.MonkeyPatch) -> None:
    names = SimpleNamespace(_get_privateuse1_backend_name=lambda: "privateuseone")
    off = {"cuda": Module(started=False), "xpu": Module(started=False)}
    put(monkeypatch, **off, C=names)
    assert dormant() is None  # Built for the CPU only.
    names._xpu_memoryStats = lambda index: {}
    expected = dormant()
    assert expected is not None
    assert (expected.kind, accelerator()) == ("xpu", None)
    assert off["xpu"].calls == []
    off["xpu"].is_initialized = lambda: True
    assert accelerator() is expected
    maker = SimpleNamespace(_get_privateuse1_backend_name=lambda: "maker")
    put(monkeypatch, **off, C=maker)
    assert dormant() is None  # Named, but its module is not there yet.
    put(monkeypatch, **off, C=maker, maker=Module(started=False))
    assert repr(dormant()) == "<Accelerator maker>"
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())  # type: ignore[arg-type]
    assert dormant() is None
    monkeypatch.delitem(sys.modules, "torch")
    assert dormant() is None
