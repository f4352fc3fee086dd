"""A forecast of a cell's memory: a forked child runs the cell on tensors without data."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
import warnings
from collections.abc import Sequence
from typing import Any

from titan_nb.errors import ResourceError
from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.forecast.child import TIME_OVER, StandIn, run_in_child
from titan_nb.memory.forecast.prediction import Forecast

__all__ = ["LIMIT_SECONDS", "forecast"]

LIMIT_SECONDS = 30.0
GRACE_SECONDS = 2.0
"""How much longer than its limit a child may take to say what it has before it is killed."""


def forecast(
    source: str,
    namespace: dict[str, Any],
    *,
    first_line: int = 1,
    limit_seconds: float = LIMIT_SECONDS,
    stand_ins: Sequence[StandIn] = (),
) -> Forecast:
    """Predict how much memory the tensors of a cell would take, without running it in this process.

    Args:
        source: The cell as Python source.
        namespace: The globals it would run with; nothing in it changes.
        first_line: The number of the source's first line, for the lines that the forecast names.
        limit_seconds: How long the forecast may take.
        stand_ins: What the child puts in the place of attributes of this process's objects, so that it
            reaches nobody else through them.

    Raises:
        ResourceError: If this process cannot be forked.
    """
    if not hasattr(os, "fork"):
        raise _no_fork("this system has no fork: a dry run needs Linux or macOS")
    began = time.monotonic()
    resident, current_index = _allocated()
    reader, writer = os.pipe()
    pid = None
    try:
        try:
            pid = _fork()
        except OSError as error:
            raise _no_fork(f"no dry run: this process cannot be forked ({error})") from None
        if pid == 0:
            _live_and_die(
                source,
                namespace,
                channel=writer,
                first_line=first_line,
                limit_seconds=limit_seconds,
                resident_bytes=resident,
                current_index=current_index,
                stand_ins=stand_ins,
            )
        os.close(writer)
        writer = -1
        messages, over = _listen(reader, began + limit_seconds + GRACE_SECONDS)
    finally:
        # Also when Ctrl-C comes in between: no child is left behind, and no descriptor.
        status = _end(pid)
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    return _summed_up(messages, over, status, resident, time.monotonic() - began)


def _no_fork(message: str) -> ResourceError:
    return ResourceError(message, requested_bytes=None, available_bytes=None, device="cpu")


def _allocated() -> tuple[dict[str, int], int]:
    """Return what torch's allocator counts on each GPU that this process uses, and which one is current."""
    found = accelerator()
    if found is None:
        return {}, 0
    held = {f"{found.kind}:{index}": found.allocated_bytes(index) for index in list(found.keys())}
    return held, found.current_index()


def _fork() -> int:
    pid = -1
    # Ctrl-C goes to the whole group of processes. In the child it would end this function, and all that
    # called it would go on there as a second kernel.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with warnings.catch_warnings():
            # Newer Pythons warn of a fork beside threads, as a kernel has them; the child calls none of them.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    finally:
        if pid != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def _live_and_die(*arguments: Any, **named: Any) -> None:
    try:
        run_in_child(*arguments, **named)
    except BaseException:
        os._exit(1)
    finally:
        os._exit(0)


def _listen(reader: int, deadline: float) -> tuple[list[dict[str, Any]], bool]:
    """Return what the child said until it ended, and whether it had to be stopped."""
    parts, poll = [], select.poll()
    poll.register(reader, select.POLLIN)
    while (left := deadline - time.monotonic()) > 0:
        if not poll.poll(left * 1000):
            continue
        part = os.read(reader, 1 << 16)
        parts.append(part)
        if not part:
            break
    else:
        return _lines(parts), True
    return _lines(parts), False


def _lines(parts: list[bytes]) -> list[dict[str, Any]]:
    whole, _, _ = b"".join(parts).rpartition(b"\n")  # a line cut short by the child's death is left out
    return [json.loads(line) for line in whole.splitlines()]


def _end(pid: int | None) -> int:
    """Make sure that the child is gone; return its status."""
    if pid is None:
        return 0
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    try:
        return os.waitpid(pid, 0)[1]
    except ChildProcessError:  # the user ignores SIGCHLD, and the system reaps by itself
        return 0


def _summed_up(
    messages: list[dict[str, Any]], over: bool, status: int, resident: dict[str, int], seconds: float
) -> Forecast:
    last = messages[-1] if messages else {}
    held = next((one["resident"] for one in messages if "resident" in one), resident)
    line, reason = last.get("line"), last.get("reason")
    if not last.get("end"):
        line = next((one["line"] for one in reversed(messages) if "line" in one), None)
        reason = TIME_OVER if over else f"the dry run's process died ({_death(status)})"
    return Forecast(
        resident_bytes=held,
        peak_bytes=last.get("peak", held),
        stopped_line=line,
        reason=reason,
        refused=tuple(f"line {where}: {what}" if where else what for where, what in last.get("refused", ())),
        statements=last.get("statements", 0),
        seconds=seconds,
    )


def _death(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return signal.strsignal(number) or f"signal {number}"
    return f"exit code {os.WEXITSTATUS(status)}"
