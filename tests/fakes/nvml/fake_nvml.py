"""The test's end of the fake: what the devices do, what is true, and what goes wrong."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import truth
from .build import library
from .control import (
    EVERY_DEVICE,
    FOREVER,
    MAGIC,
    MAX_DEVICES,
    MAX_FAULTS,
    MAX_PROCESSES,
    MAX_SPANS,
    Control,
)
from .gpu import FakeGpu

__all__ = ["NOT_AVAILABLE", "FakeNvml"]

VARIABLE = "TITAN_FAKE_NVML"
"""The environment variable by which the library finds its control file."""

NOT_AVAILABLE = -1
"""The code that makes a call succeed with NVML's "not available" value, all bits set."""

_AGE_NS = 10_000_000_000
# A load is written so long before it begins and ends, so that no read in between sees half of it.
_LEAD_NS = 200_000
_UNLIMITED = 2**62


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


class FakeNvml:
    """A fake NVIDIA driver with up to eight devices.

    Devices are named by their index. Times are seconds on ``time.monotonic``.

    Args:
        folder: Where the control file is made.
        gpus: The devices.
    """

    def __init__(self, folder: Path | str, gpus: Sequence[FakeGpu] = (FakeGpu(),)) -> None:
        if len(gpus) > MAX_DEVICES:
            raise ValueError(f"at most {MAX_DEVICES} devices")
        path = Path(folder) / "nvml-control"
        with path.open("xb") as file:
            file.truncate(ctypes.sizeof(Control))
        self._open(path)
        born = time.monotonic_ns() - _AGE_NS
        for index, gpu in enumerate(gpus):
            gpu.write(self.control.devices[index], index, born)
        self.control.wall_offset_ns = time.time_ns() - time.monotonic_ns()
        self.control.size = ctypes.sizeof(Control)
        self.control.device_count = len(gpus)
        self.control.magic = MAGIC

    def _open(self, path: Path) -> None:
        self.path = path
        with path.open("r+b") as file:
            self.control = Control.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(Control)))
        self._lock = threading.Lock()

    @classmethod
    def attach(cls, path: Path | str | None = None) -> FakeNvml:
        """Return the fake that another process made, by default the one of this process's environment."""
        fake = cls.__new__(cls)
        fake._open(Path(path or os.environ[VARIABLE]))
        return fake

    # Who sees it.

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a child process in which every NVML client finds the fake."""
        environ = dict(os.environ if base is None else base)
        paths = [str(library().parent), environ.get("LD_LIBRARY_PATH", "")]
        return {**environ, VARIABLE: str(self.path), "LD_LIBRARY_PATH": ":".join(filter(None, paths))}

    @contextmanager
    def in_process(self) -> Iterator[FakeNvml]:
        """Let ``pynvml`` of this process talk to the fake, and put it back as it was afterwards."""
        import pynvml

        loaded = ctypes.CDLL(str(library()))
        before = pynvml.nvmlLib, pynvml._nvmlLib_refcount, dict(pynvml._nvmlGetFunctionPointer_cache)
        variable = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(self.path)
        pynvml.nvmlLib, pynvml._nvmlLib_refcount = loaded, 0
        pynvml._nvmlGetFunctionPointer_cache.clear()
        try:
            yield self
        finally:
            loaded.fake_nvml_forget()
            pynvml.nvmlLib, pynvml._nvmlLib_refcount = before[:2]
            pynvml._nvmlGetFunctionPointer_cache.clear()
            pynvml._nvmlGetFunctionPointer_cache.update(before[2])
            if variable is None:
                del os.environ[VARIABLE]
            else:
                os.environ[VARIABLE] = variable

    # What the devices draw.

    def busy(self, device: int, begin: float, end: float, watts: float) -> None:
        """Let the device draw ``watts`` from ``begin`` to ``end``, after all loads that it was given before.

        Raises:
            ValueError: If the load is out of order, or the list is full.
        """
        self._append(device, _ns(begin), _ns(end), watts)

    @contextmanager
    def load(self, device: int, watts: float) -> Iterator[None]:
        """Let the device draw ``watts`` while the block runs."""
        begin_ns = time.monotonic_ns() + _LEAD_NS
        span = self._append(device, begin_ns, FOREVER, watts)
        _sleep_until(begin_ns)
        try:
            yield
        finally:
            end_ns = 0
            while end_ns <= time.monotonic_ns():  # Written too late, it would take back what a read has seen.
                end_ns = time.monotonic_ns() + _LEAD_NS
                span.end_ns = end_ns
            _sleep_until(end_ns)

    def _append(self, device: int, begin_ns: int, end_ns: int, watts: float) -> Any:
        gpu, spans = self.control.devices[device], self.control.spans[device]
        with self._lock:
            count = gpu.span_count
            if count == MAX_SPANS:
                raise ValueError(f"a device holds {MAX_SPANS} loads")
            above, earliest = 0.0, gpu.epoch_ns
            if count:
                last = spans[count - 1]
                above = (
                    last.above_joules + (last.watts - gpu.idle_watts) * (last.end_ns - last.begin_ns) * 1e-9
                )
                earliest = last.end_ns
            if not earliest <= begin_ns <= end_ns or not (watts >= 0 and math.isfinite(watts)):
                raise ValueError("a load begins after the one before it has ended, and draws 0 W or more")
            span = spans[count]
            span.begin_ns, span.end_ns, span.watts, span.above_joules = begin_ns, end_ns, watts, above
            gpu.span_count = count + 1
            if begin_ns < time.monotonic_ns():
                gpu.past_revision += 1
            return span

    # What is true.

    def true_joules(self, device: int, begin: float, end: float) -> float:
        """Return the exact energy of the device between two times, in joules."""
        gpu, spans = self.control.devices[device], self.control.spans[device]
        return truth.true_joules(gpu, spans, _ns(end)) - truth.true_joules(gpu, spans, _ns(begin))

    def counter_joules(self, device: int, at: float) -> float:
        """Return what the device's counter shows at a time, in joules, by the offset that it has now."""
        return truth.counter_joules(self.control.devices[device], self.control.spans[device], _ns(at))

    def ticks(self, device: int, begin: float, end: float) -> list[float]:
        """Return the times of the counter's ticks from ``begin`` to ``end``."""
        ticks = truth.ticks_ns(self.control.devices[device], _ns(end))
        return [tick * 1e-9 for tick in ticks if tick >= _ns(begin)]

    @property
    def calls(self) -> int:
        """How many functions of the library were called so far, by all processes."""
        return int(self.control.calls)

    def energy_reads(self, device: int) -> int:
        """Return how often the energy counter of the device was read by its own function."""
        return int(self.control.devices[device].energy_reads)

    # What goes wrong.

    @contextmanager
    def fault(
        self,
        function: str = "*",
        code: int = 0,
        *,
        device: int = EVERY_DEVICE,
        seconds: float = 0.0,
        skip: int = 0,
        times: int = _UNLIMITED,
    ) -> Iterator[None]:
        """Make a function fail, or take long, while the block runs; a call that hangs returns at its end.

        Args:
            function: The function of pynvml, without ``_v2`` or ``_v3``; ``*`` is every one.
            code: What it returns: an NVML_ERROR number, or `NOT_AVAILABLE` for a value of all bits set.
            device: The device; by default every one, and functions that belong to none.
            seconds: How long it sleeps first.
            skip: How many calls go well first.
            times: How many calls fail after these.
        """
        with self._lock:
            number = next((n for n, slot in enumerate(self.control.faults) if not slot.active), None)
            if number is None:
                raise ValueError(f"at most {MAX_FAULTS} faults at a time")
            slot = self.control.faults[number]
            slot.function, slot.code, slot.device = function.encode(), code, device
            slot.sleep_ns, slot.skip, slot.times = _ns(seconds), skip, times
            slot.active = 1
            self.control.fault_count = max(self.control.fault_count, number + 1)
        try:
            yield
        finally:
            slot.active = 0

    def reset_counter(self, device: int) -> None:
        """Let the energy counter start again from 0."""
        self.move_counter(device, -self.counter_joules(device, time.monotonic()))

    def move_counter(self, device: int, joules: float) -> None:
        """Add joules, which may be negative, to what the counter shows from now on."""
        self.control.devices[device].offset_joules += joules

    def vanish(self, device: int) -> None:
        """Let the device be lost: every call on it says so."""
        gpu = self.control.devices[device]
        gpu.lost, gpu.lost_epoch = 1, gpu.lost_epoch + 1

    def come_back(self, device: int, *, by_itself: bool = False) -> None:
        """Let a lost device return: at once, or for those who shut NVML down and start it again."""
        gpu = self.control.devices[device]
        if by_itself:
            gpu.healed_epoch = gpu.lost_epoch
        gpu.lost = 0

    def set_device_count(self, count: int) -> None:
        """Show only the first ``count`` devices; calls on the others say that they are lost."""
        self.control.device_count = count

    def set_limit(self, device: int, watts: float) -> None:
        """Change the enforced power limit."""
        self.control.devices[device].limit_watts = watts

    def step_wall_clock(self, seconds: float) -> None:
        """Move the clock that the library's time stamps are on."""
        self.control.wall_offset_ns += _ns(seconds)

    # Who is on the device.

    def start_process(
        self,
        device: int,
        pid: int,
        *,
        sm_percent: int = 0,
        memory_bytes: int | None = 1 << 30,
        instance: int | None = None,
        at: float | None = None,
    ) -> None:
        """Put a process on the device, until `end_process`.

        Args:
            device: The device.
            pid: The process, of this machine or not.
            sm_percent: Its part of the multiprocessors in each sample of utilization.
            memory_bytes: What it holds; None for "not available".
            instance: Its MIG instance, from 0; None for the whole device.
            at: From when on; by default from now on.
        """
        gpu = self.control.devices[device]
        with self._lock:
            count = gpu.process_count
            if count == MAX_PROCESSES:
                raise ValueError(f"a device holds {MAX_PROCESSES} processes")
            entry = gpu.processes[count]
            entry.pid, entry.sm_percent = pid, sm_percent
            entry.memory_bytes = 2**64 - 1 if memory_bytes is None else memory_bytes
            entry.instance = 0 if instance is None else instance + 1
            entry.begin_ns = time.monotonic_ns() if at is None else _ns(at)
            entry.end_ns = FOREVER
            gpu.process_count = count + 1

    def end_process(self, device: int, pid: int) -> None:
        """Take a process off the device."""
        gpu = self.control.devices[device]
        for entry in gpu.processes[: gpu.process_count]:
            if entry.pid == pid and entry.end_ns == FOREVER:
                entry.end_ns = time.monotonic_ns()
                return
        raise ValueError(f"no process {pid} is on device {device}")


def _sleep_until(at_ns: int) -> None:
    while (left := at_ns - time.monotonic_ns()) > 0:
        time.sleep(left * 1e-9)
