"""Spilling in a real kernel, from the fake GPU and from host memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.kernel import Kernel
from tests.kernel.stacks import NEWEST, stack_python

ROOT = Path(__file__).parents[2]
SETUP = """\
%load_ext titan_nb
import torch
from tests.fakes.accelerator import install
gpu = install(256 << 20)
"""


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with Kernel(stack_python(NEWEST), path=[ROOT]) as kernel:
        assert kernel.run(SETUP).status == "ok"
        yield kernel
    assert [*Path(tempfile.gettempdir()).glob(f"titan-spill-*-{kernel.pid}-*")] == []


def test_a_tensor_makes_room_for_a_cell_and_is_there_again(kernel: Kernel) -> None:
    assert kernel.run("x = torch.ones(40 << 20, device='fakegpu'); alias = {'k': [x]}").status == "ok"
    spilled = kernel.run("%titan spill x")
    assert spilled.text == "titan: moved 160 MiB to host memory (1 tensor)\n"
    assert kernel.run("y = torch.zeros(50 << 20, device='fakegpu'); x.shape, x.device.type").status == "ok"
    full = kernel.run("x.sum()")
    assert full.reply["ename"] == "OutOfMemoryError"
    observed = kernel.run("del y; gpu.empty_cache(); float(alias['k'][0].sum()), x is alias['k'][0]")
    assert observed.result == "(41943040.0, True)"


def test_what_out_holds_and_a_traceback_shows_is_moved_to_disk_all_the_same(kernel: Kernel) -> None:
    kernel.run("x = torch.arange(5000.0)")
    kernel.run("x")
    kernel.run("def f(a):\n    raise ValueError(a.shape)\nf(x)")
    assert kernel.run("%titan spill x --disk").text == "titan: moved 19.5 KiB to disk (1 tensor)\n"
    assert kernel.run("Out[3] is x, type(x).__name__").result == "(True, 'SpilledTensor')"
    assert "x" in kernel.run("%titan spill").reports[0]["data"]["text/plain"]
    assert kernel.run("x.sum().item()").result == "12497500.0"
    assert kernel.run("%titan spill --back").text == "titan: nothing to bring back\n"
