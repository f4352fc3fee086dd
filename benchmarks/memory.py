"""What looking after memory costs, beside two peers: per cell, by name, and after an out-of-memory error."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from figures import grid, spread
from overhead import find_peers, machine

HERE = Path(__file__).resolve().parent
_PEERS = ("ipyexperiments", "pytorch_memlab")
_CHILD_SECONDS = 600

WHO_LIMIT_MS = 50.0
BOX_LIMIT_MS = 250.0
_BOX_TOLERANCE_MS = 25.0
"""The box is looked at between batches, and the answer is put together after it."""


def measure(python: Path, part: str, repeat: int, *more: str) -> dict[str, Any]:
    """Run one part in a process of its own; return what it found."""
    command = [python, HERE / "memory_worker.py", part, "--repeat", str(repeat), *more]
    with tempfile.TemporaryDirectory() as home:
        env = {**os.environ, "HOME": home, "IPYTHONDIR": home, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            command, cwd=home, env=env, capture_output=True, text=True, timeout=_CHILD_SECONDS
        )
    if done.returncode:
        raise SystemExit(f"the part {part!r} failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all parts round by round, titan and the peers in turn; return the results."""
    own = Path(sys.executable)
    peers, pythons = find_peers(_PEERS) if options.peers else ({}, {})
    load = [os.getloadavg()[0]]
    parts: dict[str, list[dict[str, Any]]] = {}

    def add(name: str, found: dict[str, Any]) -> None:
        parts.setdefault(name, []).append(found)

    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds} ...", file=sys.stderr)
        add("scopes", measure(own, "scopes", 100))
        add("cells titan", measure(own, "cells", 2, "--seed", str(number)))
        if "ipyexperiments" in pythons:
            python = pythons["ipyexperiments"]
            more = ("--tool", "ipyexperiments", "--cells", "10", "--seed", str(number))
            add("cells ipyexperiments", measure(python, "cells", 2, *more))
        add("who titan", measure(own, "who", 5))
        if "pytorch_memlab" in pythons:
            python = pythons["pytorch_memlab"]
            add("who pytorch_memlab", measure(python, "who", 5, "--tool", "pytorch_memlab"))
        add("many", measure(own, "many", 2))
        add("reclaim", measure(own, "reclaim", 3))
    load.append(os.getloadavg()[0])
    results = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_average_before_and_after": load,
        "rounds": options.rounds,
        "peers": peers,
        "parts": parts,
    }
    return {**results, "figures": figures(parts)}


def figures(parts: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return medians with their 10 % and 90 % quantiles, in milliseconds."""

    def ms(part: str, key: str) -> dict[str, float]:
        return spread([1e3 * seconds for found in parts[part] for seconds in found[key]])

    found: dict[str, Any] = {
        "scope_host_ms": ms("scopes", "host"),
        "scope_fake_gpu_ms": ms("scopes", "fake GPU"),
        "many_ms": ms("many", "seconds"),
        "many_stopped_at": parts["many"][-1]["stopped_at"],
        "many_tensor_named": all(one["tensor_named"] for one in parts["many"]),
        "many_last_named": parts["many"][-1]["last_named"],
        "reclaim_ms": {name: ms("reclaim", name) for name in ("titan", "collect and empty the cache")},
        "reclaim_freed": parts["reclaim"][-1]["freed"],
        "cell_over_plain_ms": {},
        "who": {},
    }
    for part, rounds in parts.items():
        kind, _, tool = part.partition(" ")
        if kind == "cells":
            over = [
                1e3 * (own - plain)
                for one in rounds
                for own, plain in zip(one[tool], one["plain"], strict=True)
            ]
            found["cell_over_plain_ms"][tool] = spread(over)
        elif kind == "who":
            last = rounds[-1]
            found["who"][tool] = {
                "ms": ms(part, "seconds"),
                "seen_over_true": last["seen_bytes"] / last["true_bytes"],
            }
    return found


def report(results: dict[str, Any]) -> str:
    """Return the results as a Markdown page."""
    found = results["figures"]
    rows = [("what", "CPU ms", "10-90 %")]
    rows.append(_row("a memory scope, host only", found["scope_host_ms"]))
    rows.append(_row("a memory scope, host and one (fake) GPU in use", found["scope_fake_gpu_ms"]))
    rows += [
        _row(f"an empty cell under {tool}, over the plain cell", figure)
        for tool, figure in found["cell_over_plain_ms"].items()
    ]
    rows += [_row(f"who holds 2,000 tensors: {tool}", one["ms"]) for tool, one in found["who"].items()]
    rows += [_row(f"after an OOM 50 calls deep: {name}", one) for name, one in found["reclaim_ms"].items()]
    truth = [("tool", "bytes found / true")]
    truth += [(tool, f"{one['seen_over_true']:.3f}") for tool, one in found["who"].items()]
    freed = [("what follows the OOM", "freed", "held by the failed call")]
    freed += [
        (name, *(f"{size >> 20} MiB" for size in sizes)) for name, sizes in found["reclaim_freed"].items()
    ]
    peers = results["peers"].items()
    missing = [f"{peer}: not tried: {one['not_tried']}" for peer, one in peers if "not_tried" in one]
    parts = ["## Memory", _circumstances(results), grid(rows), _box(found), grid(truth), grid(freed)]
    return "\n\n".join([*parts, *missing, goal_table(found)]) + "\n"


def _circumstances(results: Mapping[str, Any]) -> str:
    facts, (before, after) = results["machine"], results["load_average_before_and_after"]
    versions = [f"{peer} {one['version']}" for peer, one in results["peers"].items() if "version" in one]
    python = ", ".join([f"Python {facts['python']}", *versions])
    return (
        f"{results['date'][:10]}, {facts['cpu']}, {facts['logical_cores']} logical cores, load average "
        f"{before:.1f} before and {after:.1f} after; {python}. The GPU is the fake one of the tests: its "
        "figures are simulated."
    )


def _box(found: Mapping[str, Any]) -> str:
    box, named = found["many_ms"], "named" if found["many_tensor_named"] else "not named"
    stopped = found["many_stopped_at"]
    says = f'it says "{stopped}"' if stopped else "it looked at all of them"
    return (
        f"A namespace of a million lists with one tensor beside them: an answer after {box['median']:.0f} ms "
        f"by the clock ({box['p10']:.0f} to {box['p90']:.0f}), the tensor {named}; {says}."
    )


def goal_table(found: Mapping[str, Any]) -> str:
    """Return the goals with their figures."""
    who, box = found["who"]["titan"]["ms"]["median"], found["many_ms"]["median"]
    says = bool(found["many_stopped_at"]) or found["many_last_named"]
    rows = [
        ("goal", "figure", "limit", ""),
        ("who holds 2,000 tensors", f"{who:.1f} ms", f"{WHO_LIMIT_MS:.0f} ms", _verdict(who < WHO_LIMIT_MS)),
        (
            "a million objects, and says what it skipped",
            f"{box:.0f} ms",
            f"{BOX_LIMIT_MS:.0f} ms",
            _verdict(box <= BOX_LIMIT_MS + _BOX_TOLERANCE_MS and says),
        ),
    ]
    return f"### Goals\n\n{grid(rows)}"


def _verdict(met: bool) -> str:
    return "met" if met else "missed"


def _row(name: str, figure: Mapping[str, float]) -> tuple[str, str, str]:
    return name, f"{figure['median']:.3f}", f"{figure['p10']:.3f}-{figure['p90']:.3f}"


def main() -> None:
    """Measure, print the page, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all parts (default 5)")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help=", ".join(_PEERS)
    )
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder for the results")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    results = run(options)
    page = report(results)
    del results["parts"]
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "memory.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.results / "memory.md").write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    main()
