"""Makes titan fail from within, in the kernel, as the plan says; and takes the time that titan needs."""

from __future__ import annotations

import functools
import json
import math
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from fault_plan import HANGS, plan
from IPython import get_ipython

from titan_nb import ledger, tracker
from titan_nb.chat import ChatMemory
from titan_nb.energy import Discovery, FakeSensor, Meter
from titan_nb.energy.sensors import Reading
from titan_nb.notebook import present
from titan_nb.notebook.session import Session

__all__ = ["Injection", "UngracefulError"]

WATTS = 100.0
_VALUES: dict[str, Any] = {
    "nan": math.nan,
    "inf": math.inf,
    "negative": -1.0,
    "wrong type": "1",
    "huge": 1e30,
}


class UngracefulError(BaseException):
    """What no ``except Exception`` catches."""


class _PlannedSensor(FakeSensor):
    """A simulated counter that fails when the plan says so."""

    def __init__(self, injection: Injection, place: str, blocking: bool) -> None:
        super().__init__(f"gpu:{place}", WATTS, blocking=blocking)
        self.name = place
        self._injection = injection

    def read(self) -> Reading:
        kind = self._injection.due(self.name)
        if kind is not None:
            self._faults.append(kind)  # type: ignore[arg-type]
        return super().read()


class Injection:
    """The faults of one session.

    Args:
        seed: Seed of the plan.
        cells: How many cells it has.
    """

    def __init__(self, seed: int, cells: int) -> None:
        self._plan = plan(seed, cells)
        self._number = -1
        self._calls: Counter[str] = Counter()
        self._struck: Counter[str] = Counter()
        self._own_seconds = [0.0] * cells
        self._outside_seconds = [0.0] * cells

    def install(self) -> None:
        """Put the faults in place; before titan is loaded."""
        ChatMemory().add("first", [[1.0, 2.0]])  # the first use of torch takes a second, and is not timed
        shell = get_ipython()
        shell.events.register("pre_run_cell", self._next)
        sensors = [
            _PlannedSensor(self, "inline sensor", blocking=False),
            _PlannedSensor(self, "thread sensor", blocking=True),
            *(_PlannedSensor(self, place, blocking=True) for place in HANGS),
        ]
        tracker.default().meter = Meter(lambda: Discovery(tuple(sensors)), clock=self._clock)
        ChatMemory.add = self._failing("store", ChatMemory.add)
        present.report_bundle = self._failing("view", present.report_bundle)
        publish = shell.display_pub.publish
        failing = self._failing("publish", publish)

        def publish_ours_badly(data: Any, *args: Any, **more: Any) -> Any:
            ours = any(key.startswith("application/vnd.titan.") for key in data)
            return (failing if ours else publish)(data, *args, **more)

        shell.display_pub.publish = publish_ours_badly
        for name in ("pre_run_cell", "track", "post_run_cell"):
            setattr(Session, name, self._timed(getattr(Session, name)))

    def due(self, place: str) -> str | None:
        """Return the fault that strikes ``place`` at this use of it, if there is one."""
        if not 0 <= self._number < len(self._plan):
            return None
        if place in HANGS:
            # Once, at its first read in that cell or after it: a counter is not read in every cell.
            due = any(planned.place == place for planned in self._plan[: self._number + 1])
            if not due or self._struck[f"{place}: hang"]:
                return None
            self._struck[f"{place}: hang"] += 1
            return "hang"
        planned = self._plan[self._number]
        call = self._calls[place]
        self._calls[place] += 1
        if planned.place != place or planned.call not in (None, call):
            return None
        self._struck[f"{place}: {planned.kind}"] += 1
        return planned.kind

    def record(self) -> str:
        """Return as JSON what has struck, what titan's own work took, and every report."""
        return json.dumps(
            {
                "struck": self._struck,
                "own_seconds": self._own_seconds,
                "outside_seconds": self._outside_seconds,
                "reports": [
                    {
                        "seconds": report.seconds,
                        "outcome": report.outcome,
                        "notes": report.notes,
                        "energy": {
                            key: [part.joules, part.low, part.high] for key, part in report.energy.items()
                        },
                    }
                    for report in ledger().reports
                ],
            }
        )

    def _next(self, info: Any) -> None:
        if info.store_history:
            self._number += 1
            self._calls.clear()
            self._began = time.perf_counter()

    def _clock(self) -> float:
        kind = self.due("clock")
        return time.perf_counter() if kind is None else _misbehave(kind)

    def _failing(self, place: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def failing(*args: Any, **more: Any) -> Any:
            kind = self.due(place)
            return function(*args, **more) if kind is None else _misbehave(kind)

        return failing

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **more: Any) -> Any:
            before = time.perf_counter()
            try:
                return function(*args, **more)
            finally:
                after = time.perf_counter()
                if 0 <= self._number < len(self._plan):
                    self._own_seconds[self._number] += after - before
                    self._outside_seconds[self._number] = after - self._began

        return timed


def _misbehave(kind: str) -> Any:
    if kind == "raise":
        raise RuntimeError("a fault on purpose")
    if kind == "base exception":
        raise UngracefulError("a fault on purpose")
    if kind == "memory error":
        raise MemoryError
    return _VALUES[kind]
