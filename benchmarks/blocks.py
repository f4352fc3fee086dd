"""Shuffled blocks of empty cells, one subject a process; prints the CPU seconds per cell as JSON.

Run by overhead.py, for a peer with the Python of the peer's own environment; needs IPython and ipykernel.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hooks import PEERS
from targets import KernelTarget, ShellTarget, Target

__all__ = ["PLAIN", "PROFILED", "TITAN", "Variant"]

_SETTLE_SECONDS = 0.02
"""What a cell leaves to other threads is done by then, and is counted to its own block."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to run a cell.

    Attributes:
        cell: The cell that is measured.
        before: Cells that set the shell up for it, not measured.
        after: Cells that check it and clear up, not measured; ``{cells}`` is how many were run.
        displays: How many displays each cell must send.
    """

    cell: str = "pass"
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    displays: int = 0


_OUT = "%unload_ext titan_nb"
_IN = (
    "%load_ext titan_nb",
    # The first window after a load looks the machine over, which is no cell's cost.
    "import titan_nb\nwith titan_nb.track() as run: pass\nrun = run.settle(5.0)",
    "seen = titan_nb.ledger().totals.cells",
)
_MEASURED = ("%titan off", "assert titan_nb.ledger().totals.cells - seen >= {cells}")
_NOT_MEASURED = ("assert titan_nb.ledger().totals.cells == seen",)

PLAIN = Variant(before=(_OUT,))
TITAN = {
    "plain": PLAIN,
    "%%time": Variant("%%time\npass", before=(_OUT,)),
    "loaded, off": Variant(before=_IN, after=_NOT_MEASURED),
    "%titan on": Variant(before=(*_IN, "%titan on"), after=_MEASURED),
    "%titan track": Variant("%titan track\npass", before=_IN, after=_MEASURED, displays=1),
    "%%titan": Variant("%%titan\npass", before=_IN, after=_MEASURED, displays=1),
    "%%titan -q": Variant("%%titan -q\npass", before=_IN, after=_MEASURED),
}
PROFILED = ("%titan on", "%%titan -q", "%%titan")


def _peer(name: str) -> dict[str, Variant]:
    return {
        "plain": Variant(),
        name: Variant(
            before=("peer.attach(get_ipython())",),
            after=("assert peer.ended >= {cells}", "peer.detach(get_ipython())"),
        ),
    }


def block(
    target: Target, variant: Variant, cells: int, profile: cProfile.Profile | None = None
) -> dict[str, Any]:
    """Run one block; return the CPU seconds per cell of the process and of the thread.

    Raises:
        RuntimeError: If a cell failed, or was not measured or shown as the variant wants it.
    """
    for cell in variant.before:
        target.run(cell)
    target.run(variant.cell)
    # The set-up's garbage is not the block's; collecting goes on by itself while the block runs.
    gc.collect()
    shown = target.displays
    if profile is not None:
        profile.enable()
    process, thread = target.cpu()
    for _ in range(cells):
        target.run(variant.cell)
    time.sleep(_SETTLE_SECONDS)
    process_end, thread_end = target.cpu()
    if profile is not None:
        profile.disable()
    if target.displays - shown != cells * variant.displays:
        raise RuntimeError(f"{cells} times {variant.cell!r} sent {target.displays - shown} displays")
    for cell in variant.after:
        target.run(cell.format(cells=cells))
    of_thread = None if thread is None or thread_end is None else (thread_end - thread) / cells
    return {"process": (process_end - process) / cells, "thread": of_thread}


def sweeps(
    target: Target, variants: dict[str, Variant], cells: int, count: int, order: random.Random
) -> list[dict[str, Any]]:
    """Run ``count`` sweeps, each one block of every variant in an order of its own."""
    found = []
    for _ in range(count):
        names = list(variants)
        order.shuffle(names)
        done = {name: block(target, variants[name], cells) for name in names}
        found.append({name: done[name] for name in variants})
    return found


def profiled(target: Target, variant: Variant, cells: int, top: int = 25) -> list[dict[str, Any]]:
    """Return the costliest functions of titan_nb by own time, in microseconds per cell under the profiler."""
    profile = cProfile.Profile(time.thread_time)  # CPU, as wall time would charge us for the neighbours
    block(target, variant, cells, profile)
    rows = []
    for (file, line, function), (_, calls, own, total, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        _, found, place = file.rpartition("titan_nb/")
        if found:
            rows.append(
                {
                    "function": f"{place}:{line} {function}",
                    "calls": calls / cells,
                    "own_us": own / cells * 1e6,
                    "total_us": total / cells * 1e6,
                }
            )
    return sorted(rows, key=lambda row: -row["own_us"])[:top]


def measured(options: argparse.Namespace) -> Any:
    """Return what was measured of one subject."""
    order = random.Random(options.seed)
    if options.subject == "kernel":
        with tempfile.TemporaryDirectory() as folder, KernelTarget(Path(folder)) as kernel:
            return sweeps(kernel, TITAN, options.cells, options.sweeps, order)
    with ShellTarget() as shell:
        if options.profile:
            return {name: profiled(shell, TITAN[name], options.cells) for name in PROFILED}
        if options.subject == "titan":
            return sweeps(shell, TITAN, options.cells, options.sweeps, order)
        shell.define("peer", PEERS[options.subject]())
        return sweeps(shell, _peer(options.subject), options.cells, options.sweeps, order)


def main() -> None:
    """Measure one subject."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=("titan", "kernel", *PEERS))
    parser.add_argument("--cells", type=int, required=True, help="cells in a block")
    parser.add_argument("--sweeps", type=int, required=True, help="blocks of each variant")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--profile", action="store_true", help="profile instead of timing")
    options = parser.parse_args()
    print(json.dumps(measured(options)))


if __name__ == "__main__":
    main()
