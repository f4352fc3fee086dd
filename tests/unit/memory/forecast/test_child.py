"""What the child does, done in this process: without the sandbox, which cannot be undone."""

from __future__ import annotations

import asyncio
import builtins
import gc
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses import fake_tensor
from torch.utils.data import DataLoader

from titan_nb.memory.forecast import child, torch_stand_ins
from titan_nb.memory.forecast.refusals import Refusals, Refused

Ran = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ran]:
    """Run a cell as the child does, and return its messages."""
    monkeypatch.setattr(Refusals, "begin", lambda self: None)
    monkeypatch.setattr(child, "cut_off", lambda keep: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda number: None)
    monkeypatch.setattr(gc, "freeze", lambda: None)
    for owner, name in (
        *((sys, name) for name in ("stdout", "stderr", "stdin", "displayhook", "unraisablehook")),
        *((builtins, "input"), (tempfile, "tempdir"), (torch._C, "PyTorchFileWriter")),
        *((fake_tensor, "init_gpu_context"), (DataLoader, "_get_iterator"), (signal, "signal")),
    ):
        if hasattr(owner, name):
            monkeypatch.setattr(owner, name, getattr(owner, name))
    previous = signal.getsignal(signal.SIGALRM)
    loops: list[asyncio.AbstractEventLoop] = []
    new_loop = asyncio.new_event_loop
    monkeypatch.setattr(asyncio, "new_event_loop", lambda: loops.append(new_loop()) or loops[-1])

    def run(source: str, **options: Any) -> list[dict[str, Any]]:
        reader, writer = os.pipe()
        given = {
            "first_line": 1,
            "limit_seconds": 60,
            "resident_bytes": {},
            "current_index": 0,
            "stand_ins": (),
        }
        namespace = {"torch": torch}
        child.run_in_child(source, namespace, channel=writer, **{**given, **options})
        os.close(writer)
        with os.fdopen(reader) as messages:
            return [json.loads(line) for line in messages]

    yield run
    for loop in loops:
        loop.close()
    for stream in (sys.stdout, sys.stdin):
        if stream.name == os.devnull:
            stream.close()
    signal.signal(signal.SIGALRM, previous)


def test_each_statement_is_announced(ran: Ran) -> None:
    resident, first, second, end = ran("x = torch.zeros(256)\ndel x", first_line=2)
    assert (first["line"], second["line"]) == (2, 3)
    assert second["peak"]["cpu"] - resident["resident"].get("cpu", 0) == 1024
    assert (end["end"], end["statements"]) == (True, 2)
    assert "reason" not in end


def test_the_allocators_figure_goes_before_the_count(ran: Ran) -> None:
    resident, *_ = ran("", resident_bytes={"cpu": 5})
    assert resident["resident"] == {"cpu": 5}


def test_lines_of_a_syntax_error_and_of_a_function(ran: Ran) -> None:
    assert ran("x = 1\nx = (", first_line=2)[-1]["line"] == 3
    assert ran("def f():\n    1 / 0\nf()")[-1]["line"] == 2
    assert ran("import json\njson.loads('')")[-1]["line"] == 2


def test_the_time_limit_is_told_with_the_line(ran: Ran) -> None:
    end = ran("import time\ntime.sleep(60)", limit_seconds=2)[-1]
    assert end["reason"] == child.TIME_OVER
    assert end.get("line") in (None, 2)


def test_questions_and_saving_are_refused(ran: Ran, tmp_path: Path) -> None:
    assert ran("input('?')")[-1]["refused"] == [[1, "ask a question"]]
    end = ran(f"torch.save(1, {str(tmp_path / 'x.pt')!r})")[-1]
    assert end["reason"].startswith("a dry run does not write to '")
    assert ran("import io\ntorch.save(1, io.BytesIO())")[-1]["statements"] == 2
    assert list(tmp_path.iterdir()) == []


def test_await_and_future(ran: Ran) -> None:
    source = "from __future__ import annotations\nimport asyncio\ndef f(a: nothing): ...\n"
    end = ran(f"{source}await asyncio.sleep(0)\nawait asyncio.sleep(0)")[-1]
    assert end["statements"] == 5


def test_a_stand_in_refuses(ran: Ran) -> None:
    class Shell:
        magic = None

    shell = Shell()
    stand_ins = [(shell, "magic", lambda refuse: lambda: refuse("run it"))]
    ran("", stand_ins=stand_ins)
    with pytest.raises(Refused, match="run it"):
        shell.magic()  # type: ignore[misc]


def test_the_driver_of_a_gpu_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "is_available",
        "is_initialized",
        "device_count",
        "synchronize",
        "_lazy_init",
        "init",
        "current_device",
        "set_device",
    ):
        monkeypatch.setattr(torch.cuda, name, getattr(torch.cuda, name))
    for name in ("empty_cache", "ipc_collect", "reset_peak_memory_stats", "reset_accumulated_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, getattr(torch.cuda, name))
    monkeypatch.setattr(fake_tensor, "init_gpu_context", getattr(fake_tensor, "init_gpu_context", None))
    torch_stand_ins.keep_from_driver(["cuda:0", "cuda:1"], current_index=1)
    assert torch.cuda.current_device() == 1
    torch.cuda.set_device("cuda:0")
    assert torch.cuda.current_device() == 0
    assert torch.cuda.is_available()
    assert torch.cuda.device_count() == 2
    assert torch.cuda.synchronize() is None
