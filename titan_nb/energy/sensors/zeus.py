"""Counters that titan does not read by itself, through ``zeus.device``."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from titan_nb.energy.cpu_share import CpuMoment, MachineCpu, charge_share, charge_whole
from titan_nb.energy.sensors import Reading
from titan_nb.errors import SensorError
from titan_nb.records import Energy

__all__ = ["AMD_LIBRARY", "REMEDY", "ZeusSensor", "amd_library", "import_zeus"]

REMEDY = 'pip install "titan_nb[zeus]"'
AMD_LIBRARY = "libamd_smi.so"


def import_zeus(name: str) -> Any:
    """Import a module of zeus, in such a way that nothing that the user's own code prints meanwhile is lost.

    While zeus imports amdsmi, it takes ``sys.stdout`` away from all threads, because amdsmi prints a line
    where its library is missing. So amdsmi is imported here first, or declared missing where it would print:
    then zeus's own import of it is over at once.

    Raises:
        SensorError: If it cannot be imported; the message carries the remedy.
    """
    declared = False
    try:
        if amd_library():
            importlib.import_module("amdsmi")
        elif "amdsmi" not in sys.modules:
            sys.modules["amdsmi"] = None  # type: ignore[assignment]
            declared = True
        return importlib.import_module(name)
    except Exception as error:
        raise SensorError(f"zeus cannot be imported: {error}", REMEDY) from error
    finally:
        if declared:
            sys.modules.pop("amdsmi", None)


def amd_library() -> bool:
    """Return whether the library is installed that amdsmi loads."""
    homes = (os.environ.get("ROCM_HOME"), os.environ.get("ROCM_PATH"), "/opt/rocm")
    return any((Path(home) / "lib" / AMD_LIBRARY).exists() for home in homes if home)


class ZeusSensor:
    """A counter that zeus reads.

    A CPU is charged by our share of the machine's CPU time; of a GPU it is not known who uses it, so the
    lower end is zero.

    The value of a reading is joules. Its extra values are those of a `CpuMoment` for a CPU.

    Args:
        key: Device key.
        name: The device for people.
        source: The counter, for the report.
        joules: Reads the counter.
        watts: Reads the power, where the device tells it.
        limit_watts: The most that the device draws.
        machine: The CPU time of the machine, for a CPU.
        keep: What must live as long as the sensor.
    """

    blocking = True
    counter = True
    refresh_seconds: float | None = None
    duty = 1.0

    def __init__(
        self,
        key: str,
        name: str,
        source: str,
        joules: Callable[[], float],
        *,
        limit_watts: float,
        watts: Callable[[], float] | None = None,
        machine: MachineCpu | None = None,
        keep: object = None,
    ) -> None:
        self.key = key
        self.name = name
        self.source = source
        self.limit_watts = limit_watts
        self._joules = joules
        self._watts = watts
        self._machine = machine
        self._keep = keep

    def read(self) -> Reading:
        """Read the counter, and for a CPU this process's CPU time and the machine's.

        Raises:
            SensorError: If the counter cannot be read.
        """
        before = time.perf_counter()
        try:
            joules = self._joules()
        except Exception as error:
            raise SensorError(f"{self.name} cannot be read: {error}") from error
        after = time.perf_counter()
        extra = self._machine.read() if self._machine else ()
        return Reading((before + after) / 2, joules, extra, (after - before) / 2)

    def watts_now(self) -> float | None:
        """Return the power that the device draws now, in watts, or None where it does not tell."""
        if self._watts is None:
            return None
        try:
            return self._watts()
        except Exception:
            return None  # The counter is what counts; the power only narrows its interval.

    def ours(self, whole: Energy, begin: Reading, end: Reading) -> Energy:
        """Return this process's share of a CPU, or the whole of another device."""
        if self._machine is None:
            return charge_whole(whole)
        moments = CpuMoment(*begin.extra), CpuMoment(*end.extra)
        return charge_share(whole, *moments, end.at - begin.at)

    def close(self) -> None:
        """Let go of what zeus holds."""
        self._keep = None
