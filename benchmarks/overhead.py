"""What titan costs an empty cell: CPU time beside the plain cell, `%%time` and the peers, in one run."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from environments import PeerMissingError, environment, installed
from figures import goal_table, goals, profile_text, summary, table

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE.parent / ".cache" / "bench"

_BLOCK_CELLS = 25
# eco2ai takes more than a second a cell.
_PEER_CELLS = {"codecarbon": 25, "eco2ai": 3}
_PEER_SWEEPS = {"eco2ai": 2}
_PROFILED_CELLS = 200
_CHILD_SECONDS = 1800


def measure(
    python: Path,
    subject: str,
    cells: int,
    sweeps: int,
    *more: str,
    environ: Mapping[str, str] = os.environ,
) -> Any:
    """Run one subject in a process of its own; return what it measured."""
    command = [python, HERE / "blocks.py", subject, "--cells", str(cells), "--sweeps", str(sweeps)]
    command += ["--seed", str(random.randrange(2**32)), *more]
    with tempfile.TemporaryDirectory() as home:
        # An empty home: no start-up file, history or configuration of the user's takes part.
        env = {**environ, "HOME": home, "IPYTHONDIR": home, "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(
            command, cwd=home, env=env, capture_output=True, text=True, timeout=_CHILD_SECONDS
        )
    if done.returncode:
        raise SystemExit(f"the benchmark of {subject} failed:\n{done.stderr[-4000:]}")
    return json.loads(done.stdout)


def machine() -> dict[str, Any]:
    """Return what the figures depend on, and nothing that tells whose machine it is."""
    name = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass  # Not Linux; the name stays what the platform says.
    packages = ("titan_nb", "ipython", "ipykernel", "jupyter_client", "pyzmq")
    return {
        "cpu": name or "unknown",
        "logical_cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {package: version(package) for package in packages},
    }


def find_peers(names: Iterable[str]) -> tuple[dict[str, dict[str, Any]], dict[str, Path]]:
    """Return the results of the peers, empty so far, and the Pythons of those that can be run."""
    peers: dict[str, dict[str, Any]] = {}
    pythons: dict[str, Path] = {}
    for peer in names:
        try:
            pythons[peer] = environment(peer, ENVIRONMENTS)
        except PeerMissingError as error:  # noqa: PERF203 - there are four at most
            peers[peer] = {"not_tried": str(error)}
        else:
            peers[peer] = {"version": installed(pythons[peer], peer)}
    return peers, pythons


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Measure all subjects in turn, round by round; return the results."""
    own = Path(sys.executable)
    size = min(_BLOCK_CELLS, options.cells)
    count = math.ceil(options.cells / size)
    peers, pythons = find_peers(_PEER_CELLS) if options.peers else ({}, {})
    load = [os.getloadavg()[0]]
    sweeps: dict[str, list[Any]] = {}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds} ...", file=sys.stderr)
        sweeps.setdefault("titan", []).extend(measure(own, "titan", size, count))
        for peer, python in pythons.items():
            cells = min(_PEER_CELLS[peer], size)
            found = measure(python, peer, cells, min(_PEER_SWEEPS.get(peer, count), count))
            sweeps.setdefault(peer, []).extend(found)
        if options.kernel:
            sweeps.setdefault("kernel", []).extend(measure(own, "kernel", size, count))
    load.append(os.getloadavg()[0])
    titan = summary(sweeps["titan"], size)
    for peer in pythons:
        peers[peer]["figures"] = summary(sweeps[peer], min(_PEER_CELLS[peer], size))
    kernel = summary(sweeps["kernel"], size) if options.kernel else None
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_average_before_and_after": load,
        "rounds": options.rounds,
        "titan": titan,
        "peers": peers,
        "kernel": kernel,
        "goals": goals(titan, peers, kernel),
    }


def report(results: dict[str, Any]) -> str:
    """Return the results as a Markdown page."""
    facts = results["machine"]
    packages = ", ".join(f"{name} {number}" for name, number in facts["packages"].items())
    before, after = results["load_average_before_and_after"]
    parts = [
        "## CPU time per empty cell",
        f"{results['date'][:10]}, {facts['cpu']}, {facts['logical_cores']} logical cores, load average "
        f"{before:.1f} before and {after:.1f} after; Python {facts['python']}, {packages}.",
        table("In an IPython shell", results["titan"]),
    ]
    for peer, result in results["peers"].items():
        if "figures" in result:
            parts.append(table(f"{peer} {result['version']}, in the same shell", result["figures"]))
        else:
            parts.append(f"### {peer}\n\nnot tried: {result['not_tried']}")
    if results["kernel"] is not None:
        parts.append(table("In a real kernel", results["kernel"]))
    return "\n\n".join([*parts, goal_table(results["goals"])]) + "\n"


def main() -> None:
    """Measure, print the table, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=200, help="cells of each kind in a round (default 200)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all subjects (default 5)")
    parser.add_argument(
        "--peers", action=argparse.BooleanOptionalAction, default=True, help="codecarbon, eco2ai"
    )
    parser.add_argument("--kernel", action="store_true", help="measure in a real kernel as well")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder for the results")
    options = parser.parse_args()
    if options.cells < 1 or options.rounds < 1:
        parser.error("--cells and --rounds must be at least 1")
    results = run(options)
    page = report(results)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "overhead.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.results / "overhead.md").write_text(page, encoding="utf-8")
    print(page)
    profile = options.results / "overhead-profile.txt"
    missed = {goal["variant"] for goal in results["goals"] if goal["met"] is False}
    if missed:
        profiles = measure(Path(sys.executable), "titan", min(_PROFILED_CELLS, options.cells), 1, "--profile")
        text = profile_text({name: rows for name, rows in profiles.items() if name in missed})
        profile.write_text(text, encoding="utf-8")
        print(f"A goal was missed: see {profile.name} beside the results for what the time went on.")
    else:
        profile.unlink(missing_ok=True)  # that of an earlier run


if __name__ == "__main__":
    main()
