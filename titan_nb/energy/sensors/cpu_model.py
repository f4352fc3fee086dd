"""A model of the CPU's energy where no counter can be read."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from titan_nb.energy.cgroup import CpuLimits, cpu_limits
from titan_nb.energy.cpu_time import CpuTimes, cpu_times
from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.host import process_id
from titan_nb.records import Energy

if TYPE_CHECKING:
    from titan_nb.energy.chips import Cpu, ThreadWatts

__all__ = ["CpuModel"]


class CpuModel:
    """CPU time of this process and its children times the rated power of one hardware thread.

    How many CPUs a virtual machine shows, and how much of their time a container may use, do not matter to
    CPU time. Only where it arrives in a lump, as that of a child does when it is waited for, is it cut to
    what the allowed CPUs can have worked since the first reading.

    The interval covers the chips that the machine's name for its CPU fits, not the error of the model: a
    thread at work can draw more or less than its share of the thermal design power, and what the chip
    draws when idle is not in it.

    The value of a reading is CPU time in seconds; `prepare` must have run before `energy` is asked.
    """

    source = "model: CPU time x rated power per hardware thread (eco2ai)"
    blocking = False
    counter = False
    refresh_seconds: float | None = None

    def __init__(self) -> None:
        self.key = f"cpu-process:{process_id()}"
        self.name = "CPU"
        self._lock = threading.Lock()
        self._watts: ThreadWatts | SensorError | None = None
        self._limits: CpuLimits | None = None

    @property
    def limits(self) -> str:
        """What limits the CPU time of this process, in words; empty when nothing does."""
        return str(self._limits or "")

    def prepare(self) -> None:
        """Look up the chip, once; it takes a hundredth of a second and more, so not on the user's thread.

        Raises:
            SensorError: If the tables do not tell the rated power of one hardware thread.
        """
        with self._lock:
            if self._watts is None:
                self._limits = cpu_limits()
                self._watts = self._look_up()
        if isinstance(self._watts, SensorError):
            raise self._watts

    def _look_up(self) -> ThreadWatts | SensorError:
        from titan_nb.energy.chips import eco2ai_table, look_up, this_cpu

        try:
            cpu = this_cpu()
            self.name = cpu.name or self.name
            watts = look_up(cpu, eco2ai_table())
        except SensorError as error:
            return error
        except (OSError, KeyError, ValueError) as error:
            return SensorError(f"the tables of CPUs cannot be read: {error!r}")
        self.source = _describe(cpu, watts)
        return watts

    def read(self) -> Reading:
        """Read the CPU time."""
        before = time.perf_counter()
        times = cpu_times()
        return Reading((before + time.perf_counter()) / 2, times.total, (times.own,))

    def energy(self, begin: Reading, end: Reading, started: float, ended: float) -> Energy:
        """Return CPU seconds times watts per thread."""
        watts = self._watts
        if watts is None:
            return Energy.unknown("the tables of CPUs have not been read yet")
        if isinstance(watts, SensorError):
            return Energy.unknown(str(watts))
        seconds = CpuTimes(end.extra[0], end.value).since(CpuTimes(begin.extra[0], begin.value))
        if self._limits is not None:
            # The clocks of the CPU time tick, so a hair more than possible may be seen: cut that as well.
            seconds = min(seconds, self._limits.allowed_cpus * (end.at - begin.at))
        return Energy(
            seconds * watts.typical, seconds * watts.low, seconds * watts.high, "modelled", self.source
        )

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def _describe(cpu: Cpu, watts: ThreadWatts) -> str:
    from titan_nb.energy.chips import EVERY_FAMILY

    spread = f"{watts.low:.3g} to {watts.high:.3g} W per thread"
    if watts.family == EVERY_FAMILY:
        which = (
            f"{cpu.name!r} is in no table" if cpu.name else "this machine does not tell the name of its CPU"
        )
        fits = f"{which}: {watts.chips} chips of all makes, {spread}"
    elif watts.family:
        fits = f"{cpu.name!r} is in no table: {watts.chips} chips of its family {watts.family!r}, {spread}"
    elif watts.chips == 1:
        fits = f"{watts.typical:.3g} W per thread of {cpu.name}"
    else:
        fits = f"{watts.chips} chips match {cpu.name!r}: {spread}"
    return f"{CpuModel.source}; {fits}; the model's own error is not in the interval"
