"""Everything of a process that a tracked cell must leave as it is."""

from __future__ import annotations

import asyncio
import builtins
import decimal
import gc
import hashlib
import locale
import logging
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy
import torch
from IPython import get_ipython

__all__ = ["high_water_mark", "hooks", "resources", "state"]


def _short(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _who(function: Any) -> tuple[int, int]:
    """Return the identity of a function, or of a method, which is a new object at each look."""
    return id(getattr(function, "__func__", function)), id(getattr(function, "__self__", None))


def _limits() -> dict[str, tuple[int, int]]:
    names = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {name: resource.getrlimit(getattr(resource, name)) for name in names}


def state() -> dict[str, Any]:
    """Return it as plain values; what has an identity is told by it."""
    root, shell = logging.getLogger(), get_ipython()
    return {
        "random": _short(random.getstate()),
        "numpy": _short([numpy.asarray(part).tolist() for part in numpy.random.get_state()]),
        "torch": _short(torch.get_rng_state().tolist()),
        "torch default dtype, grad, threads": (
            str(torch.get_default_dtype()),
            torch.is_grad_enabled(),
            torch.get_num_threads(),
        ),
        "cuda": torch.cuda.is_initialized(),
        "warnings.filters": _short(warnings.filters),
        "warnings.showwarning": id(warnings.showwarning),
        "logging": (root.level, logging.root.disabled, logging.lastResort is None, logging.raiseExceptions),
        "logging handlers": [(id(handler), handler.level) for handler in root.handlers],
        "signals": {
            # By name, for ipykernel makes one for each cell that awaits.
            number.name: getattr(signal.getsignal(number), "__qualname__", str(signal.getsignal(number)))
            for number in signal.valid_signals()
            if isinstance(number, signal.Signals)
        },
        "signal timer": signal.getitimer(signal.ITIMER_REAL),
        "os.environ": _short(sorted(os.environ.items())),
        "cwd": str(Path.cwd()),
        "sys.path": list(sys.path),
        "streams": (id(sys.stdin), id(sys.stdout), id(sys.stderr), id(sys.__stdout__), id(sys.__stderr__)),
        "sys hooks": [_who(hook) for hook in (sys.displayhook, sys.excepthook, sys.unraisablehook)],
        "threading.excepthook": _who(threading.excepthook),
        "trace": (sys.gettrace(), sys.getprofile(), threading.gettrace(), threading.getprofile()),
        "gc": (gc.isenabled(), gc.get_threshold(), gc.get_debug(), gc.get_freeze_count(), len(gc.callbacks)),
        "locale": locale.setlocale(locale.LC_ALL),
        "decimal": str(decimal.getcontext()),
        "limits": _limits(),
        "priority": (os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))),
        "interpreter": (sys.getswitchinterval(), sys.getrecursionlimit(), sys.dont_write_bytecode),
        "numpy print and errors": (_short(numpy.get_printoptions()), numpy.geterr()),
        "asyncio": id(asyncio.get_event_loop_policy()),
        "builtins": _short(sorted(set(vars(builtins)) - {"_"})),
        "shell": (id(shell.displayhook), id(shell.display_pub), shell.ast_node_interactivity),
    }


def high_water_mark() -> int:
    """Return ``VmHWM`` in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def hooks() -> dict[str, Any]:
    """Return everything of the shell and its streams to which an extension may add."""
    shell = get_ipython()
    registered = {}
    for name, target in {
        "display_pub": shell.display_pub,
        "displayhook": shell.displayhook,
        "stdout": sys.stdout,
        "stderr": sys.stderr,
    }.items():
        if getattr(target, "pub_thread", None) is not None:
            # The hooks of a stream belong to the thread that sends it.
            done = threading.Event()
            found: list[int] = []
            target.pub_thread.schedule(
                lambda target=target, found=found, done=done: (found.append(len(target._hooks)), done.set())
            )
            registered[name] = found[0] if done.wait(5) else None
        else:
            registered[name] = len(target._hooks)
    return {
        "outputs": registered,
        "events": {name: len(calls) for name, calls in shell.events.callbacks.items()},
        "transformers": [len(shell.input_transformers_cleanup), len(shell.input_transformers_post)],
        "ast": len(shell.ast_transformers),
        "magics": {kind: sorted(table) for kind, table in shell.magics_manager.magics.items()},
        "registry": sorted(shell.magics_manager.registry),
        "configurables": len(shell.configurables),
        "matchers": len(shell.Completer.custom_matchers),
        "printers": len(shell.display_formatter.mimebundle_formatter.type_printers),
    }


def resources() -> dict[str, Any]:
    """Return the threads by name, and the open files by what they lead to."""
    files = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            files.append(str(descriptor.readlink()))
        except FileNotFoundError:  # that of the listing itself
            continue
        # IPython writes its history when it pleases; SQLite then also opens the folder for a moment.
        if "history.sqlite" in files[-1] or files[-1].endswith("/profile_default"):
            files.pop()
    deadline = time.monotonic() + 2
    while any("titan" in thread.name for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return {"threads": sorted(thread.name for thread in threading.enumerate()), "files": sorted(files)}
