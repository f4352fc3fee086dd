from __future__ import annotations

import mmap
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from titan_nb.errors import SettingsError
from titan_nb.memory import ram_limit
from titan_nb.memory.ram_limit import HEAD_ROOM_BYTES, RamLimit

MB = 1 << 20
STATUS = Path("/proc/self/status")


def status(name: str) -> int:
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[name].split()[0]) << 10


def held() -> int:
    return status("RssAnon") + status("VmSwap")


def soft() -> int:
    return resource.getrlimit(resource.RLIMIT_DATA)[0]


@pytest.fixture(autouse=True)
def limits_as_before() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    yield
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_large_request_fails_and_a_small_one_does_not() -> None:
    limit = RamLimit(held() + 64 * MB)
    assert limit.in_force
    assert limit.mechanism.endswith(": RLIMIT_DATA 128 MiB above it")
    try:
        with pytest.raises(MemoryError, match=r"Unable to allocate 512. MiB"):
            np.ones(64 * MB)
        np.ones(4 * MB)
    finally:
        assert limit.close() is None
    np.ones(32 * MB)
    assert limit.close() is None


def test_the_limit_is_what_may_be_held_and_the_head_room() -> None:
    before = status("VmData")
    room = 300 * MB
    limit = RamLimit(held() + room)
    assert abs(soft() - before - room - HEAD_ROOM_BYTES) < 32 * MB
    limit.close()


def test_file_mappings_are_not_counted(tmp_path: Path) -> None:
    file = tmp_path / "large"
    with file.open("wb") as opened:
        opened.truncate(1 << 30)
    limit = RamLimit(held() + 64 * MB)
    assert np.memmap(file, mode="r").shape == (1 << 30,)
    limit.close()


def test_below_what_is_held() -> None:
    with pytest.raises(
        SettingsError, match=r"a RAM limit of 1.0 MiB is below the .* that this process holds"
    ):
        RamLimit(MB)


def test_threads_are_started_before_the_limit_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = soft(), []
    monkeypatch.setattr(ram_limit, "warm_openmp", lambda: seen.append(soft()))
    RamLimit(held() + 900 * MB).close()
    assert seen == [before]


def test_windows_in_any_order() -> None:
    outer, inner = RamLimit(held() + 400 * MB), RamLimit(held() + 200 * MB)
    tight = soft()
    outer.close()
    assert soft() == tight
    third = RamLimit(held() + 900 * MB)
    assert soft() == tight
    inner.close()
    assert soft() > tight
    third.close()


def test_the_users_own_limit_stays() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = RamLimit(held() + 400 * MB)
    resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + 700 * MB, before[1]))
    own = soft()
    limit.close()
    assert soft() == own
    resource.setrlimit(resource.RLIMIT_DATA, before)


def test_a_tighter_limit_of_the_users_stays_in_force() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (status("VmData") + 50 * MB, before[1]))
    own = soft()
    limit = RamLimit(held() + 4000 * MB)
    assert soft() == own
    limit.close()
    assert soft() == own
    resource.setrlimit(resource.RLIMIT_DATA, before)


def test_small_steps_are_interrupted_before_the_head_room_is_gone(sampler: Any) -> None:
    sent: list[int] = []
    limit = RamLimit(held() + 64 * MB, sampler.every, lambda: not sent.append(1))
    assert limit.mechanism.endswith(": checked every 10 ms, RLIMIT_DATA 128 MiB above it")
    kept = [np.empty(48 * MB, np.uint8)]
    sampler.tick()
    assert sent == []
    kept.append(np.empty(48 * MB, np.uint8))
    sampler.tick()
    sampler.tick()
    assert sent == [1]
    assert limit.interrupted_at_bytes is not None
    assert limit.interrupted_at_bytes > limit.limit_bytes
    assert limit.close() is None
    assert sampler.jobs == []


def test_what_is_reserved_counts_before_it_is_used(sampler: Any) -> None:
    sent: list[bool] = []
    limit = RamLimit(held() + 100 * MB, sampler.every, lambda: bool(sent.append(True)) or True)
    try:
        with mmap.mmap(-1, 120 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS):
            sampler.tick()
        assert sent == [True]
        assert limit.interrupted_at_bytes is not None
        assert limit.interrupted_at_bytes > limit.limit_bytes > held()
    finally:
        limit.close()


def test_no_file_stays_open(descriptors: Callable[[], list[str]], sampler: Any) -> None:
    before = descriptors()
    limit = RamLimit(held() + 900 * MB, sampler.every, bool)
    sampler.tick()
    limit.close()
    with pytest.raises(SettingsError):
        RamLimit(1)
    assert descriptors() == before


def test_children_inherit_the_limit_and_cannot_end_it(in_child: Callable[[Callable[[], bool]], bool]) -> None:
    limit = RamLimit(held() + 300 * MB)
    tight = soft()
    code = "import resource; print(resource.getrlimit(resource.RLIMIT_DATA)[0])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) == tight
    assert in_child(lambda: limit.close() is None and soft() == tight)
    limit.close()


def test_a_child_sets_a_limit_of_its_own(in_child: Callable[[Callable[[], bool]], bool]) -> None:
    limit = RamLimit(held() + 300 * MB)
    tight = soft()

    def check() -> bool:
        own = RamLimit(held() + 100 * MB)
        lower = soft() < tight
        own.close()
        return lower and soft() == tight

    assert in_child(check)
    limit.close()


def test_many_threads() -> None:
    faults: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(30):
                RamLimit(held() + 500 * MB).close()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert faults == []


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ram_limit, "_PLATFORM", "darwin")


@pytest.mark.usefixtures("elsewhere")
def test_elsewhere_a_watch(sampler: Any) -> None:
    before = soft()
    sent: list[int] = []
    limit = RamLimit(held() + status("RssFile") + 64 * MB, sampler.every, lambda: not sent.append(1))
    assert soft() == before
    assert limit.in_force
    assert limit.mechanism.endswith(": checked every 10 ms")
    sampler.tick()
    assert limit.interrupted_at_bytes is None
    block = np.ones(16 * MB)
    sampler.tick()
    assert sent == [1]
    assert limit.interrupted_at_bytes is not None
    assert limit.interrupted_at_bytes > block.nbytes
    limit.close()


@pytest.mark.usefixtures("elsewhere")
def test_elsewhere_below_what_is_held(sampler: Any) -> None:
    with pytest.raises(SettingsError, match="is below the"):
        RamLimit(MB, sampler.every, bool)
    assert sampler.jobs == []


@pytest.mark.usefixtures("elsewhere")
def test_elsewhere_without_an_interrupt() -> None:
    limit = RamLimit(held() + 4000 * MB)
    assert not limit.in_force
    assert limit.mechanism.endswith(
        ": not in force, RLIMIT_DATA does not work here and nothing can interrupt the code"
    )
    limit.close()


@pytest.mark.parametrize(
    "text", ["VmData: 12 kB\n", "RssAnon: x kB\nVmSwap: 0 kB\nVmData: 3 kB\n", "", "RssAnon:\n"]
)
def test_a_kernel_that_does_not_tell(tmp_path: Path, text: str, sampler: Any) -> None:
    (tmp_path / "status").write_text(text)
    before = soft()
    for file in ("status", "missing"):
        limit = RamLimit(1 << 40, sampler.every, bool, status=str(tmp_path / file))
        assert soft() == before
        assert limit.mechanism.endswith(": checked every 10 ms")
        limit.close()


def test_a_sandbox_that_does_not_keep_to_the_limit(monkeypatch: pytest.MonkeyPatch, sampler: Any) -> None:
    before = soft()
    monkeypatch.setattr(ram_limit, "_set_soft_limit", lambda value: None)
    ram_limit._ceiling_of.cache_clear()
    limit = RamLimit(held() + status("RssFile") + 300 * MB, sampler.every, bool)
    assert limit.mechanism.endswith(": checked every 10 ms")
    limit.close()
    assert soft() == before
    ram_limit._ceiling_of.cache_clear()


def test_a_limit_that_the_system_refuses_to_set_or_put_back(
    monkeypatch: pytest.MonkeyPatch, sampler: Any
) -> None:
    def refuse(value: float) -> None:
        raise PermissionError("not allowed")

    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", lambda kind, values: refuse(0))
        limit = RamLimit(held() + status("RssFile") + 300 * MB, sampler.every, bool)
        assert limit.mechanism.endswith(": checked every 10 ms")
        limit.close()
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = RamLimit(held() + 300 * MB)
    with monkeypatch.context() as patch:
        patch.setattr(resource, "setrlimit", lambda kind, values: refuse(0))
        assert limit.close() == "RLIMIT_DATA could not be put back (PermissionError: not allowed)"
    resource.setrlimit(resource.RLIMIT_DATA, before)
