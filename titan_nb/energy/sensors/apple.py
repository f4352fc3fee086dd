"""Apple's own chips by the energy counters of macOS, read through zeus-apple-silicon without ``sudo``."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from titan_nb.energy.cpu_share import CpuMoment, MachineCpu, charge_share, charge_whole
from titan_nb.energy.sensors import Reading
from titan_nb.energy.sensors.rapl import PACKAGE_WATTS
from titan_nb.errors import SensorError
from titan_nb.host import boot_id
from titan_nb.records import Energy

__all__ = ["REMEDY", "AppleSensor", "apple_sensors"]

REMEDY = 'pip install "titan_nb[apple]"'

_FRESH_SECONDS = 0.002


class _Part(NamedTuple):
    """One part of the chip: the fields of ``AppleEnergyMetrics`` that add up to it, in millijoules."""

    key: str
    name: str
    fields: tuple[str, ...]
    by_cpu_time: bool


_PARTS = (
    _Part("cpu:{}:soc", "Apple CPU", ("cpu_total_mj",), True),
    _Part("dram:{}:soc", "memory of the Apple chip", ("dram_mj",), True),
    _Part("gpu:soc-{}", "Apple GPU", ("gpu_mj", "gpu_sram_mj"), False),
    _Part("ane:{}:soc", "Apple Neural Engine", ("ane_mj",), False),
)


def apple_sensors(module: Any = None) -> list[AppleSensor]:
    """Return one sensor for each part of the chip that has a counter: CPU, memory, GPU, Neural Engine.

    Args:
        module: The module ``zeus_apple_silicon``, or a stand-in for it.

    Raises:
        SensorError: If the counters cannot be read; the message carries the remedy where there is one.
    """
    module = _binding() if module is None else module
    try:
        monitor = _Monitor(module.AppleEnergyMonitor())
    except Exception as error:
        raise SensorError(f"macOS does not give its energy counters: {error}") from error
    _, _, metrics = monitor.sample()
    machine = MachineCpu()
    return [
        AppleSensor(part, monitor, machine)
        for part in _PARTS
        if any(getattr(metrics, field) is not None for field in part.fields)
    ]


def _binding() -> Any:
    try:
        import zeus_apple_silicon
    except ImportError as error:
        raise SensorError("zeus-apple-silicon is not installed", REMEDY) from error
    return zeus_apple_silicon


class _Monitor:
    """All counters of the chip, read at once; the sensors of its parts share one look."""

    def __init__(self, monitor: Any) -> None:
        self._monitor = monitor
        self._last: tuple[float, float, Any] | None = None

    def sample(self) -> tuple[float, float, Any]:
        """Return the middle of the look, half its length, and what was seen.

        Raises:
            SensorError: If macOS does not give it.
        """
        before = time.perf_counter()
        if self._last is not None and before - self._last[0] < _FRESH_SECONDS:
            return self._last
        try:
            metrics = self._monitor.get_cumulative_energy()
        except Exception as error:
            raise SensorError(f"macOS does not give its energy counters: {error}") from error
        after = time.perf_counter()
        self._last = (before + after) / 2, (after - before) / 2, metrics
        return self._last


class AppleSensor:
    """The energy of one part of an Apple chip, as macOS tells it.

    macOS estimates these figures from the load, the frequency and the voltage; the manual of its tool
    ``powermetrics`` says that they may be inaccurate. So they are graded *modelled*. The CPU and the memory
    are charged by our share of the CPU time; of the GPU and the Neural Engine it is not known who uses them,
    so their lower end is zero.

    The value of a reading is joules. Its extra values are those of a `CpuMoment`.

    Args:
        part: Which part of the chip.
        monitor: The counters of the chip.
        machine: The CPU time of the machine.
    """

    blocking = True
    counter = True
    refresh_seconds: float | None = None
    duty = 1.0
    limit_watts = PACKAGE_WATTS

    def __init__(self, part: _Part, monitor: _Monitor, machine: MachineCpu) -> None:
        self.key = part.key.format(boot_id())
        self.name = part.name
        share = " x share of the machine's CPU time" if part.by_cpu_time else ""
        self.source = f"macOS energy model of the chip{share}"
        self._part = part
        self._sample: Callable[[], tuple[float, float, Any]] = monitor.sample
        self._machine = machine

    def read(self) -> Reading:
        """Read the counter, this process's CPU time and the machine's.

        Raises:
            SensorError: If the counter cannot be read.
        """
        at, slack, metrics = self._sample()
        values = [getattr(metrics, field) for field in self._part.fields]
        known = [value for value in values if value is not None]
        if not known:
            raise SensorError(f"macOS does not tell the energy of the {self.name} any more")
        return Reading(at, sum(known) * 1e-3, self._machine.read(), slack)

    def watts_now(self) -> float | None:
        """Return None: macOS tells energy alone."""
        return None

    def ours(self, whole: Energy, begin: Reading, end: Reading) -> Energy:
        """Return this process's share of the CPU and of the memory; the whole of another part."""
        if self._part.by_cpu_time:
            moments = CpuMoment(*begin.extra), CpuMoment(*end.extra)
            return charge_share(whole, *moments, end.at - begin.at, "modelled")
        return charge_whole(whole, "modelled")

    def close(self) -> None:
        """Do nothing: the counters go with their last sensor."""
