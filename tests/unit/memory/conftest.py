from __future__ import annotations

import mmap
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from titan_nb.memory.accelerator import Accelerator, Gateway
from titan_nb.memory.peaks import Peaks


class FakeAllocator(Accelerator):
    """Devices with a current and a peak use, as torch's allocator counts them."""

    def __init__(self, *keys: str, kind: str = "cuda") -> None:
        super().__init__(kind, None)
        self.names = list(keys)
        self.current = dict.fromkeys(keys, 0)
        self.peak = dict.fromkeys(keys, 0)
        self.reserved: dict[str, Any] = {}
        self.sizes: Callable[[], Any] = lambda: None
        self.fault: Callable[[], Any] | None = None

    def appear(self, key: str) -> None:
        self.names.append(key)
        self.current[key] = self.peak[key] = 0

    def add(self, key: str, size_bytes: int) -> None:
        self.current[key] += size_bytes
        self.peak[key] = max(self.peak[key], self.current[key])

    def blip(self, key: str, size_bytes: int) -> None:
        self.add(key, size_bytes)
        self.add(key, -size_bytes)

    def keys(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    def statistics(self, index: int) -> dict[str, Any]:
        key = self.names[index]
        peak = self.peak[key] if self.fault is None else self.fault()
        found: dict[str, Any] = {"allocated_bytes": {"all": {"current": self.current[key], "peak": peak}}}
        if key in self.reserved:
            found["reserved_bytes"] = {"all": {"current": self.reserved[key]}}
        return found

    def reset_peaks(self, index: int) -> None:
        self.peak[self.names[index]] = self.current[self.names[index]]

    def allocated_bytes(self, index: int) -> int:
        current = self.current[self.names[index]]
        return current if self.fault is None else self.fault()  # type: ignore[no-any-return]

    def free_and_total_bytes(self, index: int) -> Any:
        return self.sizes()

    def gateways(self) -> list[Gateway]:
        return []


@pytest.fixture
def allocator() -> FakeAllocator:
    return FakeAllocator("gpu:GPU-a", "gpu:GPU-b")


def _hold(size_bytes: int) -> mmap.mmap:
    block = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    for offset in range(0, size_bytes, mmap.PAGESIZE):
        block[offset] = 1
    return block


@pytest.fixture
def hold() -> Callable[[int], mmap.mmap]:
    """Take memory that is really resident; closing it gives all of it back at once."""
    return _hold


@pytest.fixture
def blip() -> Callable[[int], None]:
    return lambda size_bytes: _hold(size_bytes).close()


@pytest.fixture
def descriptors() -> Callable[[], list[str]]:
    """List the numbers of the open files, the one of the listing itself among them."""
    return lambda: sorted(entry.name for entry in Path("/proc/self/fd").iterdir())


@pytest.fixture
def in_child() -> Callable[[Callable[[], bool]], bool]:
    """Run a check in a forked child, where a hang ends after 10 s, and return what it returned."""

    def run(check: Callable[[], bool]) -> bool:
        with warnings.catch_warnings():
            # Newer Pythons warn of a fork beside threads, which is the very thing tried here.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            import signal

            signal.alarm(10)
            try:
                os._exit(0 if check() else 1)
            finally:
                os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    return run


class FakeSampler:
    """Runs its jobs when told to."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []
        self.periods: list[float] = []

    def every(self, seconds: float, job: Callable[[], None]) -> Callable[[], None]:
        self.jobs.append(job)
        self.periods.append(seconds)
        return lambda: self.jobs.remove(job)

    def tick(self) -> None:
        for job in list(self.jobs):
            job()


@pytest.fixture
def sampler() -> FakeSampler:
    return FakeSampler()


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it look as if no GPU was started, also after another test has started the fake one."""
    fake = getattr(sys.modules.get("torch"), "fakegpu", None)
    if fake is not None:
        monkeypatch.setattr(fake, "is_initialized", lambda: False)
        monkeypatch.setattr(fake, "device_count", lambda: 0)


@pytest.fixture
def peaks(no_gpu: None) -> Iterator[Peaks]:
    found = Peaks()
    yield found
    found.close()
