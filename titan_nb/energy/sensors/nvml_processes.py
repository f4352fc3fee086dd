"""Who is on an NVIDIA device, and what of its energy is ours."""

from __future__ import annotations

import dataclasses
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from titan_nb.energy.sensors.nvml_device import NvmlDevice
from titan_nb.energy.sensors.nvml_session import NvmlError
from titan_nb.records import Energy, Grade

__all__ = ["LOOK_SECONDS", "SHARE_SECONDS", "Company", "Processes", "charge", "our_pid"]

LOOK_SECONDS = 0.5
"""The shortest time between two looks at the processes."""

SHARE_SECONDS = 2.0
"""The shortest window that is split by SM time: NVML samples it every 1/6 to 1 s."""

_SM_PERIOD_SECONDS = 1.0
_COST_RATIO = 200
"""A look that took long is followed by so many times its length without one: at most 0.5 % of the time."""

_PROC = Path("/proc")


class Company(NamedTuple):
    """Who was on the device, added up over the looks at it since the first one.

    Attributes:
        others: Compute processes of others at the last look; -1 when the driver does not tell.
        looks: Looks so far.
        looks_shared: Looks that found others.
        looks_untold: Looks that found nothing out.
        idle_share: Sum over the looks of our equal share: 1/n when we are one of n, 0 when only others are
            there, 1 when nobody is.
        our_sm_seconds: Time in which a kernel of ours ran.
        other_sm_seconds: The same of all others.
        sampled_seconds: Time that the two before were sampled in.
    """

    others: float = 0.0
    looks: float = 0.0
    looks_shared: float = 0.0
    looks_untold: float = 0.0
    idle_share: float = 0.0
    our_sm_seconds: float = 0.0
    other_sm_seconds: float = 0.0
    sampled_seconds: float = 0.0


class Processes:
    """The compute processes of one device, looked at no more often than every `LOOK_SECONDS`.

    In a container NVML shows the host's process ids. One single process whose id does not exist here is
    taken as ours; among several ours is not known then, and the energy is not split.

    Args:
        device: The device.
        clock: Where the time is from, in seconds.
        wall_clock: Where NVML's time stamps are from, in seconds.
    """

    def __init__(
        self,
        device: NvmlDevice,
        clock: Callable[[], float] = time.perf_counter,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.company = Company()
        self._device = device
        self._clock = clock
        self._wall_clock = wall_clock
        self._due = 0.0
        self._sampled_until: float | None = None
        self._last_sample_us = 0
        self._samples = True

    def look(self, now: float) -> Company:
        """Return who was there, after a new look when it is time for one."""
        if now < self._due:
            return self.company
        self.company = self._look(now)
        self._due = now + max(LOOK_SECONDS, _COST_RATIO * (self._clock() - now))
        return self.company

    def _look(self, now: float) -> Company:
        last = self.company
        processes = self._device.ask("nvmlDeviceGetComputeRunningProcesses")
        if processes is None:
            self._sampled_until = None
            return last._replace(others=-1.0, looks=last.looks + 1, looks_untold=last.looks_untold + 1)
        pids = {int(process.pid) for process in processes}
        ours = our_pid(pids)
        present = ours in pids or (ours is None and bool(pids))
        others = len(pids) - present
        equal = 1.0 if not pids else present / len(pids)
        seconds, our_sm, other_sm = self._sample(now, ours)
        return Company(
            others=float(others),
            looks=last.looks + 1,
            looks_shared=last.looks_shared + (others > 0),
            looks_untold=last.looks_untold,
            idle_share=last.idle_share + equal,
            our_sm_seconds=last.our_sm_seconds + our_sm,
            other_sm_seconds=last.other_sm_seconds + other_sm,
            sampled_seconds=last.sampled_seconds + seconds,
        )

    def _sample(self, now: float, ours: int | None) -> tuple[float, float, float]:
        """Return the seconds sampled since the last look, and of these the SM seconds of ours and others'."""
        since, self._sampled_until = self._sampled_until, None
        if not self._samples:
            return 0.0, 0.0, 0.0
        wall_us = int(self._wall_clock() * 1e6)
        if since is None or wall_us < self._last_sample_us:
            # The first time, or the wall clock was put back: from here on.
            self._sampled_until, self._last_sample_us = now, wall_us
            return 0.0, 0.0, 0.0
        try:
            samples = self._device.call("nvmlDeviceGetProcessUtilization", self._last_sample_us)
        except NvmlError as error:
            if error.kind in ("NotSupported", "FunctionNotFound", "NoPermission", "AttributeError"):
                self._samples = False
                return 0.0, 0.0, 0.0
            if not _says_none(error):
                return 0.0, 0.0, 0.0
            samples = []
        samples = [
            sample for sample in samples if sample.timeStamp > self._last_sample_us and sample.smUtil <= 100
        ]
        self._sampled_until = now
        self._last_sample_us = max(
            (int(sample.timeStamp) for sample in samples), default=self._last_sample_us
        )
        if ours is None:
            return 0.0, 0.0, 0.0
        seconds = now - since
        if not samples:
            return seconds, 0.0, 0.0
        # A process has a sample for each of the driver's periods in which it was busy, or one for all of the
        # time. The busiest tells how many periods there were: rather too few, so that none counts too little.
        periods = max(Counter(sample.pid for sample in samples).values())
        part = seconds / periods / 100
        our_sm = part * sum(sample.smUtil for sample in samples if sample.pid == ours)
        other_sm = part * sum(sample.smUtil for sample in samples if sample.pid != ours)
        return seconds, our_sm, other_sm


def our_pid(pids: set[int]) -> int | None:
    """Return the id that NVML knows this process by, or None when it cannot be told."""
    here = os.getpid()
    if here in pids:
        return here
    strangers = [pid for pid in pids if not (_PROC / str(pid)).exists()]
    if not strangers:
        return here
    return strangers[0] if len(pids) == 1 else None


def _says_none(error: NvmlError) -> bool:
    # The binding raises an error of value 0 where NVML succeeds with no sample at all.
    return error.kind == "NotFound" or getattr(error.__cause__, "value", None) == 0


def charge(
    whole: Energy, begin: Company, end: Company, *, seconds: float, limit_watts: float, mig: bool
) -> Energy:
    """Return what of the ``whole`` device's energy is charged to this process.

    Alone on the device, all of it. With others there, in a window of `SHARE_SECONDS` or more: the active
    energy by SM time, as Kepler does (and in equal parts where nobody used the SMs), and the idle energy in
    equal parts among the processes there, which is a convention of ours. SM time says when kernels ran, not
    what they drew, so the lower end takes off all that the others can have drawn while theirs ran: the
    power limit for their SM time and for one more sampling period. The upper end stays the whole.

    Otherwise what is ours is not known: the whole, with zero as the lower end.

    Args:
        whole: The energy of the device in the window.
        begin: Who was there before the window.
        end: Who was there after it.
        seconds: From the one to the other.
        limit_watts: The most that the device draws, in watts.
        mig: Whether the device is divided into instances; SM time is not sampled then.
    """
    if whole.joules is None:
        return whole
    looks = end.looks - begin.looks
    if mig:
        why = "the whole GPU, of which this process has a MIG instance"
    elif max(begin.others, end.others) > 0 or end.looks_shared > begin.looks_shared:
        sampled = end.sampled_seconds - begin.sampled_seconds
        if seconds >= SHARE_SECONDS and looks > 0 and sampled >= seconds / 2:
            return _split(whole, begin, end, max(0.0, seconds - sampled), limit_watts)
        why = "the whole GPU, with other processes on it"
    elif min(begin.others, end.others) < 0 or end.looks_untold > begin.looks_untold:
        why = "the whole GPU; whether others use it is not known"
    else:
        return whole
    grade: Grade = "bounded" if whole.grade == "bounded" else "shared"
    return dataclasses.replace(whole, low=0.0, grade=grade, source=f"{whole.source}; {why}")


def _split(
    whole: Energy, begin: Company, end: Company, unsampled_seconds: float, limit_watts: float
) -> Energy:
    ours = end.our_sm_seconds - begin.our_sm_seconds
    others = end.other_sm_seconds - begin.other_sm_seconds
    equal = (end.idle_share - begin.idle_share) / (end.looks - begin.looks)
    share = ours / (ours + others) if ours + others > 0 else equal
    joules, low = whole.joules or 0.0, whole.low or 0.0
    idle = whole.idle_joules
    ours_idle = (idle or 0.0) * equal
    joules = (joules - (idle or 0.0)) * share + ours_idle
    others_limit = limit_watts * (others + unsampled_seconds + _SM_PERIOD_SECONDS)
    low = 0.0 if idle is None else low - (idle - ours_idle) - others_limit
    why = f"{share:.0%} of its active energy, by SM time, and {equal:.0%} of its idle energy"
    if idle is None:
        why = f"{share:.0%} of it, by SM time"
    return dataclasses.replace(
        whole,
        joules=joules,
        low=min(max(0.0, low), joules),
        grade="bounded" if whole.grade == "bounded" else "shared",
        source=f"{whole.source}; {why}",
        idle_joules=None if idle is None else ours_idle,
    )
