"""Ten thousand cells of each length on the simulated clock, on devices drawn from a seed."""

from __future__ import annotations

import random
from typing import Any

from simulation import Simulation, drawn_machine

__all__ = ["DUTIES", "simulated"]

DUTIES = {"integrating": 1.0, "part-time": 0.25}
"""The kinds of counter, and the part of the time in which each looks."""

_CELLS_A_MACHINE = 10
_GAP_SECONDS = (0.4, 1.2)


def simulated(kind: str, seconds: float, count: int, seed: int) -> list[dict[str, Any]]:
    """Return cells of one length.

    Args:
        kind: A key of `DUTIES`.
        seconds: Length of each cell.
        count: How many.
        seed: What the devices, and all else by chance, are drawn from.
    """
    source = random.Random(f"{seed} {kind} {seconds}")
    cells: list[dict[str, Any]] = []
    while len(cells) < count:
        simulation = Simulation(drawn_machine(source, DUTIES[kind]), source)
        for _ in range(min(_CELLS_A_MACHINE, count - len(cells))):
            simulation.wait(source.uniform(*_GAP_SECONDS))
            cell = simulation.cell(seconds)
            cells.append(
                {
                    "seconds": seconds,
                    "true_joules": cell.true_joules,
                    "joules": cell.energy.joules,
                    "low": cell.energy.low,
                    "high": cell.energy.high,
                    "late_seconds": cell.late_seconds,
                }
            )
    return cells
