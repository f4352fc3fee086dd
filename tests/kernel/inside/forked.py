"""What a child process of a tracked cell does, and what it finds; each function runs in the kernel."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import titan_nb

__all__ = ["data_loader", "forks", "forks_beside_threads", "processes", "programs", "resident_peak"]

DEADLOCK_SECONDS = 10.0


def _written_bytes() -> int:
    """Return how many bytes this process has ever handed to write calls, to any file."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("wchar:")).split()[1])


def found_by_child(parent_pid: int) -> dict[str, Any]:
    """Track something in a child, and return what titan did there."""
    inherited = len(titan_nb.ledger().reports)
    before = _written_bytes()
    with titan_nb.track(label="child") as run:
        total = sum(range(1000))
    written = _written_bytes() - before
    return {
        "child": os.getpid() != parent_pid,
        "total": total,
        "inherited": inherited,
        "written": written,
        "threads": [thread.name for thread in threading.enumerate()],
        "tasks": len(list(Path("/proc/self/task").iterdir())),
        "energy": {key: part.joules for key, part in run.report.energy.items()},
        "memory": sorted(run.report.memory.devices),
    }


def _judged(found: dict[str, Any] | None, *, forked: bool) -> str:
    """Return what is wrong with what a child found; nothing if all is well."""
    if found is None:
        return "deadlock"
    problems = []
    if not found["child"] or found["total"] != 499500:
        problems.append("did not run")
    if forked:
        # A spawned child is a program of its own, which may measure itself where it asks for it.
        if any("titan" in name for name in found["threads"]) or found["tasks"] != 1:
            problems.append(f"threads {found['threads']}, {found['tasks']} tasks")
        if found["written"]:
            problems.append(f"{found['written']} bytes written")
        if found["energy"] or found["memory"]:
            problems.append(f"measured {found['energy']} {found['memory']}")
    return ", ".join(problems)


def _counted(verdicts: list[str]) -> tuple[int, list[str]]:
    return sum(not verdict for verdict in verdicts), sorted({verdict for verdict in verdicts if verdict})


def _fork_once() -> str:
    parent = os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, json.dumps(found_by_child(parent)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    try:
        ready, _, _ = select.select([reader], [], [], DEADLOCK_SECONDS)
        answer = os.read(reader, 65_536) if ready else b""
        if not ready:
            os.kill(pid, signal.SIGKILL)
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    return _judged(json.loads(answer) if answer else None, forked=True)


def forks(count: int) -> tuple[int, list[str]]:
    """Fork ``count`` times; return how many children were as they should be, and what was wrong."""
    return _counted([_fork_once() for _ in range(count)])


def forks_beside_threads(count: int) -> tuple[int, list[str]]:
    """Fork while one thread opens and closes windows, and another reads the session, all the time."""
    stop = threading.Event()

    def track() -> None:
        while not stop.is_set():
            with titan_nb.track(label="thread"):
                pass

    def read() -> None:
        while not stop.is_set():
            assert titan_nb.ledger().totals.cells >= 0

    threads = [threading.Thread(target=track), threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    verdicts: list[str] = []
    try:
        # Each deadlock costs its whole time: one tells as much as a hundred.
        while len(verdicts) < count and "deadlock" not in verdicts:
            verdicts.append(_fork_once())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return _counted(verdicts)


def _send(parent_pid: int, connection: Any) -> None:
    connection.send(found_by_child(parent_pid))


def processes(count: int, method: str) -> tuple[int, list[str]]:
    """Start ``count`` processes by multiprocessing, one after the other."""
    context: Any = multiprocessing.get_context(method)
    verdicts = []
    for _ in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=_send, args=(os.getpid(), theirs))
        process.start()
        found = ours.recv() if ours.poll(DEADLOCK_SECONDS) else None
        if found is None:
            process.kill()
        process.join()
        ours.close()
        theirs.close()
        verdicts.append(_judged(found, forked=method == "fork"))
    return _counted(verdicts)


class _Rows:
    """A data set that says in which state the worker is that reads it."""

    def __init__(self) -> None:
        self.parent_pid = os.getpid()

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> str:
        return json.dumps(found_by_child(self.parent_pid))


def data_loader(count: int) -> tuple[int, list[str]]:
    """Read a data set ``count`` times with two workers each; each worker has a thread for its queue."""
    from torch.utils.data import DataLoader

    verdicts = []
    for _ in range(count):
        loader = DataLoader(_Rows(), num_workers=2, batch_size=None, timeout=DEADLOCK_SECONDS)
        found = [json.loads(text) for text in loader]
        problems = [] if len(found) == 4 else [f"{len(found)} rows"]
        for each in found:
            each["tasks"] = 1  # torch's own; titan's are told by name
            each["written"] = 0  # the queue's thread writes at any moment
            problems += filter(None, [_judged(each, forked=True)])
        verdicts.append("; ".join(problems))
    return _counted(verdicts)


def programs(count: int) -> tuple[int, list[str]]:
    """Run ``count`` other programs."""
    verdicts = []
    for number in range(count):
        answer = subprocess.run(
            ["/bin/sh", "-c", f"echo {number}"], capture_output=True, timeout=DEADLOCK_SECONDS, check=True
        )
        verdicts.append("" if answer.stdout == b"%d\n" % number else repr(answer))
    return _counted(verdicts)


def resident_peak() -> int:
    """Return the parent's exact peak in bytes, of a window in which 64 MiB came and went before a fork."""
    with titan_nb.track() as run:
        block = bytearray(64 << 20)
        block[::4096] = b"x" * len(block[::4096])
        del block
        verdict = _fork_once()
    if verdict:
        raise RuntimeError(verdict)
    (memory,) = [part for key, part in run.report.memory.devices.items() if key.startswith("ram:")]
    return memory.peak_bytes - memory.before_bytes
