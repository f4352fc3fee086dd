"""Busy spans on the fake GPU, measured by one tool in a process of its own; prints what it found as JSON.

Run by energy.py, for a peer with the Python of the peer's own environment. It needs nothing but the tool.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from hooks import PEERS, Carbontracker, Eco2ai

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from fakes.nvml import FakeNvml

BUSY_WATTS = 700.0
GAP_SECONDS = (0.4, 0.6)
"""Idle time between cells; longer than a tick by any amount up to two, so that the phase is any."""

_SETTLE_SECONDS = 5.0
_WARM_UP_SECONDS = 1.0


class Tool(Protocol):
    """Something that measures a stretch of time."""

    def start(self) -> None:
        """Begin to measure."""
        ...

    def stop(self) -> None:
        """End the measurement."""
        ...

    def joules(self) -> float:
        """Return what the GPU used in the last measurement."""
        ...


class Titan:
    """`titan_nb.track` of a `with` statement."""

    def __init__(self) -> None:
        import titan_nb

        self._tracking = titan_nb.track()
        # The first window finds the devices, which is no cell's cost.
        self.start()
        self.stop()
        self.settled()

    def start(self) -> None:
        """Enter the block."""
        self._run = self._tracking.__enter__()

    def stop(self) -> None:
        """Leave the block."""
        self._tracking.__exit__(None, None, None)

    def _gpu(self, report: Any) -> Any:
        return next(part for key, part in report.energy.items() if key.startswith("gpu:"))

    def joules(self) -> float:
        """Return the figure that is there at once."""
        return self._gpu(self._run.report).joules  # type: ignore[no-any-return]

    def settled(self) -> dict[str, Any]:
        """Return the figure after the counter's next tick, and how long that took."""
        began = time.perf_counter()
        energy = self._gpu(self._run.settle(_SETTLE_SECONDS))
        return {
            "joules": energy.joules,
            "low": energy.low,
            "high": energy.high,
            "grade": energy.grade,
            "late_seconds": time.perf_counter() - began,
        }


class Nothing:
    """No tool at all: what a bare interpreter costs."""

    def start(self) -> None:
        """Do nothing."""

    def stop(self) -> None:
        """Do nothing."""

    def joules(self) -> float:
        """Return 0."""
        return 0.0


TOOLS = {"titan": Titan, "nothing": Nothing, **PEERS, "eco2ai": lambda: Eco2ai(anew=True)}
# The sampling periods that are best for short windows, of those that the peers' documentation allows.
SHARPEST = {"carbontracker": lambda: Carbontracker(0.1), "eco2ai": lambda: Eco2ai(1.0, anew=True)}


def cell(tool: Tool, fake: FakeNvml, seconds: float, source: random.Random) -> dict[str, Any]:
    """Measure one busy span; return what is true and what the tool says."""
    time.sleep(source.uniform(*GAP_SECONDS))
    before = time.monotonic()
    tool.start()
    begin = time.monotonic()
    with fake.load(0, BUSY_WATTS):
        time.sleep(seconds)
    end = time.monotonic()
    tool.stop()
    after = time.monotonic()
    found = {
        "seconds": seconds,
        "true_joules": fake.true_joules(0, begin, end),
        "outer_joules": fake.true_joules(0, before, after),
        "call_seconds": after - before - (end - begin),
        "first_joules": tool.joules(),
    }
    settled = tool.settled() if isinstance(tool, Titan) else {"joules": found["first_joules"]}
    return found | settled


def idle_cpu(tool: Tool, seconds: float) -> dict[str, float]:
    """Return the CPU seconds per second of sleep: after a measurement, and within one."""
    tool.start()
    tool.stop()
    time.sleep(_WARM_UP_SECONDS)
    found = {}
    for where in ("idle", "open"):
        if where == "open":
            tool.start()
        began = _cpu_seconds()
        time.sleep(seconds)
        found[where] = (_cpu_seconds() - began) / seconds
    tool.stop()
    return found


def _cpu_seconds() -> float:
    """Return the CPU time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def main() -> None:
    """Measure with one tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tool", choices=tuple(TOOLS))
    parser.add_argument("--cells", type=json.loads, default={}, help="how many cells of which seconds")
    parser.add_argument("--idle-seconds", type=float, help="measure the idle CPU instead")
    parser.add_argument("--seed", type=int, required=True)
    options = parser.parse_args()
    # What a tool prints is not the result.
    out, sys.stdout = sys.stdout, sys.stderr
    fake, source = FakeNvml.attach(), random.Random(options.seed)
    fake.start_process(0, os.getpid(), sm_percent=90)
    idle = options.idle_seconds is not None
    tool: Tool = TOOLS[options.tool]() if idle else SHARPEST.get(options.tool, TOOLS[options.tool])()
    print("ready", file=out, flush=True)
    sys.stdin.readline()
    if idle:
        result: Any = idle_cpu(tool, options.idle_seconds)
    else:
        time.sleep(_WARM_UP_SECONDS)
        order = [float(seconds) for seconds, count in options.cells.items() for _ in range(count)]
        source.shuffle(order)
        result = [cell(tool, fake, seconds, source) for seconds in order]
    print(json.dumps(result), file=out, flush=True)
    # A peer's threads may wait for ever.
    os._exit(0)


if __name__ == "__main__":
    main()
