"""The measurements of a calibration, one after the other."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone

from titan_nb.energy.bursts import Verdict, burst_train, judge
from titan_nb.energy.calibration import Calibration
from titan_nb.energy.load import Beside, Load
from titan_nb.energy.polling import (
    Look,
    Regularity,
    Tick,
    lasting,
    mean_watts,
    poll,
    regularity,
    stamps_tick,
    ticks,
)
from titan_nb.energy.sensors.nvml_specimen import Specimen
from titan_nb.errors import SensorError

__all__ = ["FULL_SECONDS", "Plan", "calibrate"]

FULL_SECONDS = 30.0
"""Length of the steady load in a full run."""

_POWER_PAUSE_SECONDS = 0.02
_FEWEST_POWERS = 10

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Plan:
    """How long each part of the calibration lasts.

    Attributes:
        steady_seconds: Length of the steady load; a full run has 30 s.
        idle_seconds: Length of each look at the idle device.
        settle_seconds: Rest after the device has been put to work, or its work has ended.
        bursts: How many bursts of each length.
        calls: How often each NVML call is timed.
    """

    steady_seconds: float = FULL_SECONDS
    idle_seconds: float = 5.0
    settle_seconds: float = 2.0
    bursts: int = 24
    calls: int = 500

    @property
    def reduced(self) -> bool:
        """Whether the steady load is shorter than that of a full run."""
        return self.steady_seconds < FULL_SECONDS

    @classmethod
    def of(cls, seconds: float) -> Plan:
        """Return the plan with a steady load of ``seconds``, the other parts shortened alike."""
        part = min(1.0, seconds / FULL_SECONDS)
        return cls(
            steady_seconds=seconds,
            idle_seconds=max(1.5, 5 * part),
            settle_seconds=max(0.5, 2 * part),
            bursts=max(6, round(24 * part)),
            calls=max(50, round(500 * part)),
        )


def calibrate(specimen: Specimen, load: Load, plan: Plan, say: Say = lambda line: None) -> Calibration:
    """Measure one GPU.

    Args:
        specimen: The GPU, with nobody at work on it.
        load: Work for it, not yet opened.
        plan: How long.
        say: Takes one line at the begin of each part.

    Raises:
        SensorError: If the GPU cannot be read or put to work, or others are on it.
    """
    if specimen.processes():
        raise SensorError(f"others compute on {specimen.name}", "calibrate when it is free")
    say("idle, without a CUDA context")
    before = _idle(specimen, plan)
    idle_ticks = regularity(before)
    stamped = [look for look in _stamped(specimen, plan) if look is not None]
    moves = stamps_tick(stamped, idle_ticks.period_seconds)
    say("latency of the calls")
    latencies = specimen.latencies(plan.calls)
    say("idle, with a CUDA context")
    uuid = load.open()
    if uuid not in (None, specimen.uuid):
        why = f"the load is on {uuid}, and the counter is that of {specimen.uuid}"
        raise SensorError(why, "set CUDA_DEVICE_ORDER=PCI_BUS_ID")
    time.sleep(plan.settle_seconds)
    context = mean_watts(_idle(specimen, plan))
    own = specimen.own_process
    say(f"steady load for {plan.steady_seconds:g} s")
    loaded, power_watts = _steady(specimen, load, plan)
    say("idle, after the load")
    time.sleep(plan.settle_seconds)
    after = mean_watts(_idle(specimen, plan))
    steady, rhythm = mean_watts(loaded), regularity(loaded)
    say(f"bursts, {plan.bursts} of each length")
    verdict = _bursts(specimen, load, plan, rhythm, steady)
    if len(specimen.processes()) > 1:
        raise SensorError(f"others came to compute on {specimen.name}", "calibrate when it is free")
    return Calibration(
        name=specimen.name,
        uuid=specimen.uuid,
        driver=specimen.driver,
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        load=load.name,
        steady_seconds=plan.steady_seconds,
        reduced=plan.reduced,
        tick_seconds=_plausible(rhythm.period_seconds),
        jitter_seconds=rhythm.jitter_seconds,
        idle_tick_seconds=_plausible(idle_ticks.period_seconds),
        timestamp_moves_with_ticks=moves,
        duty=verdict.duty,
        duty_why=verdict.why,
        bursts=verdict.bursts,
        burst_scatter=verdict.scatter,
        burst_scatter_part_time=verdict.scatter_part_time,
        burst_total_ratio=verdict.total_ratio,
        idle_watts={"before_context": mean_watts(before), "with_context": context, "after_load": after},
        steady_watts=steady,
        agreement=steady / power_watts if steady and power_watts else None,
        power="instant" if specimen.instant else "mean",
        own_process=own,
        latencies=latencies,
    )


def _plausible(period_seconds: float | None) -> float | None:
    """Return a period that the looks can have told: one a millisecond cannot see a shorter one."""
    return period_seconds if period_seconds is not None and 1e-3 <= period_seconds <= 5 else None


def _idle(specimen: Specimen, plan: Plan) -> list[Tick]:
    return list(ticks(poll(specimen.look, lasting(plan.idle_seconds))))


def _stamped(specimen: Specimen, plan: Plan) -> Iterator[Look | None]:
    going = lasting(plan.idle_seconds)
    while going():
        yield specimen.stamped_look()
        time.sleep(1e-3)


def _steady(specimen: Specimen, load: Load, plan: Plan) -> tuple[list[Tick], float | None]:
    """Return the ticks under a steady load, and the mean of the power readings between them, in watts."""
    beside = Beside(lambda: load.run(plan.steady_seconds + 2 * plan.settle_seconds))
    time.sleep(plan.settle_seconds)
    powers: list[tuple[float, float]] = []

    def look() -> Look:
        now = time.perf_counter()
        if not powers or now >= powers[-1][0] + _POWER_PAUSE_SECONDS:
            watts = specimen.watts()
            if watts is not None:
                powers.append((now, watts))
        return specimen.look()

    seen = list(ticks(poll(look, lasting(plan.steady_seconds))))
    beside.result()
    inside = [(at, watts) for at, watts in powers if seen and seen[0].at <= at <= seen[-1].at]
    if len(inside) < _FEWEST_POWERS:
        return seen, None
    pairs = itertools.pairwise(inside)
    joules = sum((new[1] + old[1]) / 2 * (new[0] - old[0]) for old, new in pairs)
    return seen, joules / (inside[-1][0] - inside[0][0])


def _bursts(specimen: Specimen, load: Load, plan: Plan, rhythm: Regularity, steady: float | None) -> Verdict:
    period = _plausible(rhythm.period_seconds)
    if period is None:
        return Verdict(None, "the counter has no regular ticks")
    return judge(*burst_train(specimen.look, load, period, plan.bursts), period, steady)
