"""A model of the CPU's energy where no counter can be read."""

from __future__ import annotations

import threading
import time

from titan_nb.energy.chips import Cpu, ThreadWatts, eco2ai_table, look_up, this_cpu
from titan_nb.energy.cpu_time import CpuTimes, cpu_times
from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.host import process_id
from titan_nb.records import Energy

__all__ = ["CpuModel"]


class CpuModel:
    """CPU time of this process and its children times the rated power of one hardware thread.

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

    def prepare(self) -> None:
        """Look up the chip, once; it takes a hundredth of a second and more, so not on the user's thread.

        Raises:
            SensorError: If the tables do not tell the rated power of one hardware thread.
        """
        with self._lock:
            if self._watts is None:
                self._watts = self._look_up()
        if isinstance(self._watts, SensorError):
            raise self._watts

    def _look_up(self) -> ThreadWatts | SensorError:
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
        return Energy(
            seconds * watts.typical, seconds * watts.low, seconds * watts.high, "modelled", self.source
        )

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def _describe(cpu: Cpu, watts: ThreadWatts) -> str:
    if watts.chips == 1:
        fits = f"{watts.typical:.3g} W per thread of {cpu.name}"
    elif watts.family:
        spread = f"{watts.low:.3g} to {watts.high:.3g} W per thread"
        fits = f"{cpu.name!r} is in no table: {watts.chips} chips of its family {watts.family!r}, {spread}"
    else:
        fits = f"{watts.chips} chips match {cpu.name!r}: {watts.low:.3g} to {watts.high:.3g} W per thread"
    return f"{CpuModel.source}; {fits}; the model's own error is not in the interval"
