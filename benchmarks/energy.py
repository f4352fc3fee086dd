"""How right the energy of a cell is, and what it costs: titan beside its peers, on a simulated GPU."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from energy_coverage import DUTIES, simulated
from energy_figures import LENGTHS, goals, summaries, summary
from energy_page import page
from energy_plot import plot
from energy_processes import GPUS, IDLE_WATTS, TICK_SECONDS, Job, gpu_environment, together
from energy_worker import BUSY_WATTS
from environments import REQUIREMENTS
from figures import Figures
from figures import summary as cpu_summary
from overhead import HERE, find_peers, machine, measure

_OWN = Path(sys.executable)
_PLOT = "energy-error.png"
# Its start and stop take two seconds a cell, and so much CPU time that it would disturb the others.
_SLOW = "eco2ai"
# The usual device of today.
_CPU_KIND = "part-time"


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        cells: How many cells of each of `LENGTHS`, in real time.
        slow_cells: The same for the slow peer.
        simulated: How many cells of each length on the simulated clock.
        cpu_rounds: How often each tool's empty cells are measured, each time in a new process.
        cpu_sweeps: Blocks of 25 cells in each round.
        idle_seconds: How long the CPU time of doing nothing is measured.
    """

    cells: tuple[int, ...] = (200, 200, 200, 10)
    slow_cells: tuple[int, ...] = (15, 15, 15, 3)
    simulated: int = 10_000
    cpu_rounds: int = 2
    cpu_sweeps: int = 8
    idle_seconds: float = 20.0


QUICK = Size((5, 5, 2, 0), (1, 1, 1, 0), 100, 1, 1, 1.0)
_SLOW_BLOCK_CELLS, _SLOW_SWEEPS = 3, 2


def accuracy(pythons: dict[str, Path], size: Size) -> dict[str, Any]:
    """Measure busy spans with all tools on both kinds of counter; return the figures of each."""

    def jobs(tools: list[str], counts: tuple[int, ...]) -> list[Job]:
        cells = json.dumps(dict(zip(LENGTHS, counts, strict=True)))
        return [Job(tool, pythons[tool], kind, ("--cells", cells)) for kind in GPUS for tool in tools]

    groups = [(jobs([tool for tool in pythons if tool != _SLOW], size.cells))]
    if _SLOW in pythons:
        groups.append(jobs([_SLOW], size.slow_cells))
    found: dict[str, Any] = {kind: {} for kind in GPUS}
    for group in groups:
        for job, cells in zip(group, together(group), strict=True):
            tables = found[job.kind]
            tables[job.tool] = summaries(cells, lenient=job.tool != "titan")
            if job.tool == "titan":
                tables["titan, at once"] = summaries(cells, "first_joules")
    return found


def coverage(count: int, seed: int) -> dict[str, Any]:
    """Return the figures of both kinds of counter on the simulated clock."""
    with ProcessPoolExecutor(2) as pool:
        running = {
            (kind, seconds): pool.submit(simulated, kind, seconds, count, seed)
            for seconds in reversed(LENGTHS)
            for kind in DUTIES
        }
        return {
            kind: {seconds: summary(running[kind, seconds].result()) for seconds in LENGTHS}
            for kind in DUTIES
        }


def cpu(pythons: dict[str, Path], size: Size) -> dict[str, Figures]:
    """Return the CPU time of empty cells in an IPython shell, of titan as it is with ``%titan on``."""
    sweeps: dict[str, list[Any]] = {}
    cells = {tool: _SLOW_BLOCK_CELLS if tool == _SLOW else 25 for tool in pythons}
    for _ in range(size.cpu_rounds):
        for tool, python in pythons.items():
            count = min(_SLOW_SWEEPS, size.cpu_sweeps) if tool == _SLOW else size.cpu_sweeps
            with gpu_environment(_CPU_KIND) as (fake, environ, _):
                sweeps.setdefault(tool, []).extend(measure(python, tool, cells[tool], count, environ=environ))
                if not fake.calls:
                    raise SystemExit(f"{tool} has not looked at the GPU: its CPU time says nothing")
    figures = {tool: cpu_summary(found, cells[tool]) for tool, found in sweeps.items()}
    figures["titan"] = {name: figures["titan"][name] for name in ("plain", "%titan on")}
    return figures


def idle(pythons: dict[str, Path], seconds: float) -> dict[str, Any]:
    """Return the CPU time of doing nothing, as parts of a core."""
    tools = {"nothing": _OWN, **pythons}
    jobs = [Job(tool, python, _CPU_KIND, ("--idle-seconds", str(seconds))) for tool, python in tools.items()]
    return dict(zip(tools, together(jobs), strict=True))


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; return the results."""
    size = QUICK if options.quick else Size()
    peers, pythons = find_peers(REQUIREMENTS) if options.peers else ({}, {})
    pythons = {"titan": _OWN, **pythons}
    load = [os.getloadavg()[0]]
    results: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "peers": peers,
        "quick": options.quick,
        "seed": options.seed,
        "gpu": {"tick_seconds": TICK_SECONDS, "idle_watts": IDLE_WATTS, "busy_watts": BUSY_WATTS},
        "idle_seconds": size.idle_seconds,
        "plot": _PLOT,
    }
    parts = {
        "accuracy": lambda: accuracy(pythons, size),
        "coverage": lambda: coverage(size.simulated, options.seed),
        "cpu": lambda: cpu(pythons, size),
        "idle": lambda: idle(pythons, size.idle_seconds),
    }
    for name, part in parts.items():
        print(f"{name} ...", file=sys.stderr)
        results[name] = part()
    load.append(os.getloadavg()[0])
    return results | {"load_average_before_and_after": load, "goals": goals(results)}


def main() -> None:
    """Measure, print the tables, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few cells of each kind, in a minute")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="measure them")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="of the simulated clock")
    parser.add_argument("--results", type=Path, help="folder for the results (with --quick: none)")
    options = parser.parse_args()
    results = run(options)
    text = page(results)
    print(text)
    folder = options.results or (None if options.quick else HERE / "results")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "energy.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (folder / "energy.md").write_text(text, encoding="utf-8")
        plot(results["accuracy"], folder / _PLOT)


if __name__ == "__main__":
    main()
