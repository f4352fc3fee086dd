"""One part of the memory benchmark, in a process of its own; prints what it found as JSON.

Run by memory.py, for a peer with the Python of the peer's own environment.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import io
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1]))

MIB = 1 << 20
CAPACITY_BYTES = 256 * MIB
LAYERS = 200
MANY = 1_000_000

Found = dict[str, Any]


def cpu_seconds(function: Callable[[], object]) -> float:
    """Return the CPU seconds of this thread in one call."""
    began = time.thread_time()
    function()
    return time.thread_time() - began


def on_fake_gpu() -> Any:
    """Put the fake accelerator to use, and return torch."""
    import torch

    from tests.fakes.accelerator import install

    install(CAPACITY_BYTES)
    return torch


def scopes(options: argparse.Namespace) -> Found:
    """Time the opening and closing of one memory scope: the host's mark, and the fake GPU's besides."""
    from titan_nb.memory import Peaks

    peaks = Peaks()

    def scope() -> None:
        peaks.open().close()

    scope()
    host = [cpu_seconds(scope) for _ in range(options.repeat)]
    kept = on_fake_gpu().ones(MIB, device="fakegpu")
    scope()
    gpu = [cpu_seconds(scope) for _ in range(options.repeat)]
    del kept
    return {"host": host, "fake GPU": gpu}


def cells(options: argparse.Namespace) -> Found:
    """Time empty cells of one kind beside plain ones; the blocks of both in shuffled order."""
    from blocks import Variant, sweeps
    from targets import ShellTarget

    order = random.Random(options.seed)
    if options.tool == "titan":
        torch = on_fake_gpu()
        first = "import titan_nb\nwith titan_nb.track() as run: pass\nrun = run.settle(5.0)"
        load = ("%load_ext titan_nb", first)
        variants = {
            "plain": Variant(before=("%unload_ext titan_nb",)),
            "titan": Variant(before=(*load, "%titan on"), after=("%titan off",)),
        }
    else:
        torch = None
        variants = {
            "plain": Variant(),
            "ipyexperiments": Variant(
                before=(
                    "from ipyexperiments import IPyExperimentsCPU",
                    "exp = IPyExperimentsCPU(exp_enable=False)",
                ),
                after=("exp.cl.stop()",),
            ),
        }
    with ShellTarget() as shell:
        shell.define("kept", None if torch is None else torch.ones(MIB, device="fakegpu"))
        found = sweeps(shell, variants, options.cells, options.repeat, order)
    return {name: [sweep[name]["process"] for sweep in found] for name in variants}


def trained() -> tuple[Any, Any, int]:
    """Return a model and its optimizer after one step: 2,000 tensors, and the bytes that they hold."""
    import torch

    model = torch.nn.Sequential(*(torch.nn.Linear(32, 32) for _ in range(LAYERS)))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 32)).sum().backward()
    optimizer.step()
    tensors = [one for parameter in model.parameters() for one in (parameter, parameter.grad)]
    tensors += [one for state in optimizer.state.values() for one in state.values()]
    return model, optimizer, sum(one.untyped_storage().nbytes() for one in tensors)


def who(options: argparse.Namespace) -> Found:
    """Time the answer to who holds 2,000 tensors, and compare its sum with the truth."""
    model, optimizer, true_bytes = trained()
    seen: list[int] = []
    if options.tool == "titan":
        from titan_nb import owners

        namespace = {"model": model, "optimizer": optimizer}

        def ask() -> None:
            rows = owners(namespace).rows
            seen.append(sum(row.size_bytes for row in rows if row.name.startswith(("model", "optimizer"))))

    else:
        from pytorch_memlab import MemReporter

        def ask() -> None:
            reporter = MemReporter(model)
            reporter.add_optimizer(optimizer)
            with contextlib.redirect_stdout(io.StringIO()):
                reporter.report()
            seen.append(sum(size for stats in reporter.device_tensor_stat.values() for *_, size in stats))

    ask()
    times = [cpu_seconds(ask) for _ in range(options.repeat)]
    return {"seconds": times, "true_bytes": true_bytes, "seen_bytes": seen[-1]}


def many(options: argparse.Namespace) -> Found:
    """Time the answer on a million objects, by the clock, with a tensor beside them and one in the last."""
    import torch

    from titan_nb import owners

    huge: list[list[Any]] = [[number] for number in range(MANY)]
    huge[-1].append(torch.ones(MIB))
    namespace = {"huge": huge, "tensor": torch.ones(MIB)}
    seconds, answer = [], None
    for _ in range(options.repeat):
        began = time.perf_counter()
        answer = owners(namespace)
        seconds.append(time.perf_counter() - began)
    assert answer is not None
    names = [row.name for row in answer.rows]
    return {
        "seconds": seconds,
        "stopped_at": answer.stopped_at,
        "tensor_named": "tensor" in names,
        "last_named": any(name.startswith("huge") for name in names),
    }


def reclaim(options: argparse.Namespace) -> Found:
    """Time what follows an out-of-memory error, after which all of a failed call is to be free again."""
    torch = on_fake_gpu()
    from titan_nb.memory.reclaim import reclaim as give_back

    def fill(depth: int) -> None:
        block = torch.empty(4 * MIB, dtype=torch.uint8, device="fakegpu")
        if depth:
            fill(depth - 1)
        torch.empty(CAPACITY_BYTES, dtype=torch.uint8, device="fakegpu")
        del block

    def failure() -> BaseException:
        try:
            fill(49)
        except torch.OutOfMemoryError as error:
            return error
        raise AssertionError("there was enough memory")

    found: Found = {"titan": [], "collect and empty the cache": [], "freed": {}}
    for _ in range(options.repeat):
        for name in ("collect and empty the cache", "titan"):
            error = failure()
            held = torch.fakegpu.memory_allocated()

            def usual() -> None:
                gc.collect()
                torch.fakegpu.empty_cache()

            ways = {"titan": functools.partial(give_back, [error]), "collect and empty the cache": usual}
            found[name].append(cpu_seconds(ways[name]))
            found["freed"][name] = [held - torch.fakegpu.memory_allocated(), held]
            give_back([error])
    return found


PARTS = {"scopes": scopes, "cells": cells, "who": who, "many": many, "reclaim": reclaim}


def main() -> None:
    """Measure one part with one tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--tool", default="titan")
    parser.add_argument("--repeat", type=int, required=True)
    parser.add_argument("--cells", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(PARTS[options.part](options)))


if __name__ == "__main__":
    main()
