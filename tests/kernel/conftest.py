"""The battery, played once a session for each stack, and a kernel with a fake GPU."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.fakes.accelerator.build import library
from tests.kernel.battery import SETUPS, TITAN_REPORTS, Seen, play
from tests.kernel.cases import CASES
from tests.kernel.cell import MODES, PLAIN, PLAIN_LINE
from tests.kernel.kernel import Kernel
from tests.kernel.stacks import NEWEST, stack_python

ROOT = Path(__file__).parents[2]
WRONG = Path(__file__).parent / "wrong"
FAKE_GPU = """\
%load_ext titan_nb
import numpy as np, titan_nb, torch
from tests.fakes.accelerator import install
install(256 << 20)
def gpu(mebibytes):
    return torch.empty(mebibytes << 20, dtype=torch.uint8, device="fakegpu")
"""

Played = dict[tuple[str, str], Seen]
Battery = dict[str, "Future[Played]"]


@pytest.fixture(scope="session")
def pool() -> Iterator[ThreadPoolExecutor]:
    """Room for two kernels at a time."""
    with ThreadPoolExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="session")
def battery(pool: ThreadPoolExecutor) -> Callable[[str], Battery]:
    """Return the function that plays the battery in every mode of a stack, once."""

    @functools.cache
    def started(stack: str) -> Battery:
        python = stack_python(stack)
        played = {PLAIN: pool.submit(play, python, CASES, PLAIN, PLAIN_LINE)}
        for mode in MODES:
            played[mode] = pool.submit(play, python, CASES, mode, setup=SETUPS[mode], count=TITAN_REPORTS)
        return played

    return started


@pytest.fixture(scope="module")
def fake_gpu_kernel() -> Iterator[Kernel]:
    """A kernel with titan and a fake GPU of 256 MiB, on which ``gpu`` makes tensors."""
    library()  # built by a cell it might take longer than a cell may
    with Kernel(sys.executable, path=(ROOT,)) as kernel:
        assert kernel.run(FAKE_GPU).status == "ok"
        yield kernel


@pytest.fixture(scope="session")
def plain_again(pool: ThreadPoolExecutor) -> Future[Played]:
    """The plain battery a second time, in another kernel."""
    return pool.submit(play, stack_python(NEWEST), CASES, PLAIN, PLAIN_LINE)


@pytest.fixture(scope="session")
def wrong(pool: ThreadPoolExecutor) -> Callable[[str], Played]:
    """Return the function that plays the battery with one of the wrong strategies."""

    def played(strategy: str) -> Played:
        count = f"len(__import__({strategy!r}).REPORTS)"
        return play(
            stack_python(NEWEST), CASES, "%%titan", setup=f"%load_ext {strategy}", count=count, path=(WRONG,)
        )

    return played
