"""What the chat memory takes, beside its peers, and beside the time of just reading the rows."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from chat_data import QUERIES, SETS, data_set, true_floors
from chat_page import SIZES, figures, page
from chat_plot import plot
from overhead import find_peers, machine

HERE = Path(__file__).resolve().parent
PEERS = ("faiss-cpu", "lancedb", "nano-vectordb", "turbovec")
BEST = 10
_CHILD_SECONDS = 3000
_LIBRARIES = ("OMP", "OPENBLAS", "MKL", "RAYON")
_ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in _LIBRARIES}

Parts = dict[str, list[dict[str, Any]]]


class Bench:
    """Runs the parts, each in a process of its own, and keeps what they found.

    Args:
        options: The command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.peers, self._pythons = find_peers(PEERS) if options.peers else ({}, {})
        self._pythons |= {"titan": Path(sys.executable), "torch": Path(sys.executable)}
        self.parts: Parts = {}

    def run(self, part: str, tool: str, repeat: int, *, name: str = "", **more: Any) -> None:
        """Run one part of one tool; one that is not installed is left out."""
        if tool not in self._pythons:
            return
        command = [str(self._pythons[tool]), str(HERE / "chat_worker.py"), part, "--tool", tool]
        command += ["--repeat", str(repeat), "--folder", str(self.options.data)]
        for key, value in more.items():
            command += [f"--{key}", str(value)]
        env = {**os.environ, **_ONE_THREAD, "PYTHONWARNINGS": "ignore", "HOME": str(self.options.data)}
        # Compiled modules, as an installation has them.
        env |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(self.options.data / "compiled")}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=_CHILD_SECONDS)
        if done.returncode:
            raise SystemExit(f"{part} of {tool} failed:\n{done.stderr[-4000:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        self.parts.setdefault(name or part, []).append(found | {"tool": tool})

    def round(self, number: int) -> None:
        """Run every part once, titan and the peers in turn."""
        options = self.options
        for each in SETS:
            path = options.data / f"{each}-{options.rows}.npy"
            given = {"data": path, "rows": options.rows, "truth": true_floors(path, options.rows, BEST)}
            for tool in ("titan", "faiss-cpu", "turbovec"):
                self.run("scan", tool, options.searches, name=f"scan {each}", **given)
            if each == "random":
                for tool in ("titan", "faiss-cpu"):
                    self.run("batch", tool, 2, **given)
        path = options.data / f"text-{options.rows}.npy"
        few = min(10_000, options.rows)
        for tool in ("titan", "nano-vectordb"):
            self.run("chat", tool, 1000, data=path, rows=few)
            self.run("insert", tool, 1, data=path, rows=few)
        many = min(100_000, options.rows)
        for tool in ("titan", "lancedb"):
            self.run("append", tool, 20, data=path, rows=1000)
            if number == 0:
                self.run("keep", tool, 1, data=path, rows=many)
            self.run("reopen", tool, 1, rows=many)
        for size in [size for size in SIZES if size <= max(SIZES[0], options.rows // 100)]:
            for tool in ("titan", "torch"):
                self.run("process", tool, 5, name=f"process {size}", rows=size)

    def sizes(self) -> None:
        """Search ever more rows, for the plot."""
        path = self.options.data / f"text-{self.options.rows}.npy"
        for power in range(3, 10):
            rows = 10**power
            if rows > self.options.rows:
                break
            given = {"data": path, "rows": rows, "truth": true_floors(path, rows, BEST)}
            self.run("scan", "titan", self.options.searches, name=f"rows {rows}", **given)


def main() -> None:
    """Measure, print the page, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows searched (default a million)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all parts (default 3)")
    parser.add_argument("--searches", type=int, default=50, help="searches per round (default 50)")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help=", ".join(PEERS))
    parser.add_argument(
        "--data", type=Path, default=HERE.parent / ".cache" / "bench" / "chat", help="folder for the rows"
    )
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder for the results")
    options = parser.parse_args()
    if options.rounds < 1 or options.rows < 1000 or not 1 <= options.searches <= QUERIES:
        parser.error(f"--rounds from 1, --rows from 1000, --searches from 1 to {QUERIES}")
    for each in SETS:
        _, queries = data_set(each, options.rows, options.data)
    np.save(options.data / "query.npy", queries[0])  # of the text, which is what is kept and opened again
    load = [os.getloadavg()[0]]
    bench = Bench(options)
    try:
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds} ...", file=sys.stderr)
            bench.round(number)
        bench.sizes()
    finally:
        for made in (
            *options.data.glob("reopen-*"),
            *options.data.glob("titan-*"),
            *options.data.glob("tmp*"),
            *options.data.glob("compiled"),
        ):
            shutil.rmtree(made)
    load.append(os.getloadavg()[0])
    results: Mapping[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_average_before_and_after": load,
        "rows": options.rows,
        "rounds": options.rounds,
        "peers": bench.peers,
        "figures": figures(bench.parts),
    }
    text = page(results)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "chat.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (options.results / "chat.md").write_text(text, encoding="utf-8")
    plot(results["figures"]["rows"], options.results / "chat-rows.png")
    print(text)


if __name__ == "__main__":
    main()
