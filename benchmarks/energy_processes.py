"""Tools at work side by side, each in a process and on a fake GPU of its own."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "tests"))

from fakes.nvml import FakeGpu, FakeNvml  # noqa: E402 - found by the line above

__all__ = ["GPUS", "IDLE_WATTS", "TICK_SECONDS", "Job", "gpu_environment", "together"]

TICK_SECONDS, IDLE_WATTS = 0.1, 70.0
_SAME = {
    "tick_seconds": TICK_SECONDS,
    "jitter_seconds": 0.001,
    "idle_watts": IDLE_WATTS,
    "limit_watts": 700.0,
}
GPUS = {
    # NVML's Turing: it sees all of the time, and its power is the mean since the last tick.
    "integrating": FakeGpu(
        name="simulated GPU", architecture=6, instant_seconds=0.1, average_seconds=0.1, **_SAME
    ),
    # NVML's Hopper: it sees 25 of 100 ms, and its power is the mean of a second.
    "part-time": FakeGpu(name="simulated GPU", architecture=9, duty=0.25, **_SAME),
}
"""The two kinds of device, each the way that NVML and published tests describe its architecture."""

_WORK_SECONDS = 1800


@dataclass(frozen=True)
class Job:
    """What one process has to do.

    Attributes:
        tool: A tool of energy_worker.py.
        python: The Python that has it.
        kind: A key of `GPUS`.
        arguments: More arguments of energy_worker.py.
    """

    tool: str
    python: Path
    kind: str
    arguments: tuple[str, ...]


@contextmanager
def gpu_environment(kind: str) -> Iterator[tuple[FakeNvml, dict[str, str], Path]]:
    """Make a fake GPU; yield it, the environment in which all find it, and a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fake = FakeNvml(folder, [GPUS[kind]])
        # codecarbon looks at no GPU where this program is not found.
        program = folder / "nvidia-smi"
        program.write_text("#!/bin/sh\n", encoding="utf-8")
        program.chmod(0o755)
        environ = fake.environment()
        environ |= {"PATH": f"{name}:{environ['PATH']}", "HOME": name, "PYTHONWARNINGS": "ignore"}
        environ.pop("CUDA_VISIBLE_DEVICES", None)
        yield fake, environ, folder


def together(jobs: Sequence[Job]) -> list[Any]:
    """Run all jobs at the same time, from the moment that the last of them is ready.

    Nearly all of that time they sleep. Side by side they see the same machine, whatever else runs on it.
    """
    with ExitStack() as stack:
        started = [_start(job, stack) for job in jobs]
        for job, (process, log) in zip(jobs, started, strict=True):
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                _failed(job, log)
        for process, _ in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        results = []
        for job, (process, log) in zip(jobs, started, strict=True):
            out, _ = process.communicate(timeout=_WORK_SECONDS)
            if process.returncode:
                _failed(job, log)
            results.append(json.loads(out))
        return results


def _start(job: Job, stack: ExitStack) -> tuple[subprocess.Popen[str], IO[str]]:
    _, environ, folder = stack.enter_context(gpu_environment(job.kind))
    log = stack.enter_context((folder / "log").open("w+", encoding="utf-8"))
    command = [str(job.python), str(HERE / "energy_worker.py"), job.tool, *job.arguments]
    command += ["--seed", str(random.randrange(2**32))]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    stack.enter_context(process)
    stack.callback(process.kill)  # Before the one above, which waits for its end.
    return process, log


def _failed(job: Job, log: IO[str]) -> None:
    log.seek(0)
    raise SystemExit(f"{job.tool} failed on the {job.kind} counter:\n{log.read()[-4000:]}")
