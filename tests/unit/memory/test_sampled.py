from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from titan_nb.memory.host_peak import HostPeak
from titan_nb.memory.sampled import Sampled
from titan_nb.records import DeviceMemory


class Process:
    """A /proc/self/status whose resident memory is set by hand."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "status"
        self.set(100)
        self.host = HostPeak(str(self.path))

    def set(self, kilobytes: int) -> None:
        self.path.write_text(f"\nVmHWM:\t{kilobytes} kB\nVmRSS:\t{kilobytes} kB\n")


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process(tmp_path)


def test_the_peak_is_the_largest_sample(process: Process) -> None:
    sampled = Sampled(process.host.resident)
    for kilobytes in (150, 400, 120):
        process.set(kilobytes)
        sampled.sample()
    process.set(110)
    expected = DeviceMemory(102_400, 409_600, 112_640, "sampled", "VmRSS every 10 ms")
    assert sampled.finish() == expected
    process.host.close()


def test_without_a_sample_it_says_so(process: Process) -> None:
    sampled = Sampled(process.host.resident)
    process.set(300)
    assert sampled.finish() == DeviceMemory(102_400, 307_200, 307_200, "sampled", "VmRSS at start and end")
    process.host.close()


def test_a_job_after_the_end_reads_nothing(process: Process) -> None:
    sampled = Sampled(process.host.resident)
    sampled.finish()
    process.host.close()
    sampled.sample()
    assert process.host._status._opened is None


@pytest.mark.parametrize("known_at", ["start", "end"])
def test_unknown_at_either_end_is_no_row(
    process: Process, monkeypatch: pytest.MonkeyPatch, known_at: str
) -> None:
    def unknown() -> None:
        raise psutil.NoSuchProcess(0)

    monkeypatch.setattr(psutil, "Process", unknown)
    if known_at == "end":
        process.path.write_text("")
    sampled = Sampled(process.host.resident)
    if known_at == "start":
        process.path.write_text("")
        sampled.sample()
    else:
        process.set(100)
    assert sampled.finish() is None
    process.host.close()


def test_a_device_that_was_not_there_before() -> None:
    levels = iter([(7, "counter"), (5, "counter")])
    sampled = Sampled(lambda: next(levels), before_bytes=0)
    sampled.sample()
    assert sampled.finish() == DeviceMemory(0, 7, 5, "sampled", "counter every 10 ms")
