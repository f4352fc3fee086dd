from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from titan_nb.memory import openmp
from titan_nb.memory.openmp import warm_openmp


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def test_nothing_is_imported_for_it() -> None:
    code = (
        "import sys; from titan_nb.memory import openmp; openmp.warm_openmp(); print('numpy' in sys.modules)"
    )
    assert run(code) == "False\n"


def test_the_threads_are_there_before_the_first_operation_and_no_number_is_drawn() -> None:
    """Two threads are asked for, so that a machine with one core starts one as well."""
    code = """
import os, torch, numpy
from titan_nb.memory.openmp import warm_openmp
torch.set_num_threads(3)
threads = lambda: len(os.listdir("/proc/self/task"))
states = lambda: (torch.get_rng_state().tolist(), str(numpy.random.get_state()))
before, drawn = threads(), states()
warm_openmp()
warm = threads()
torch.ones(1 << 22).add_(1)
print(warm - before, threads() - warm, states() == drawn)
"""
    assert run(code) == "2 0 True\n"


def test_once_for_each_thread_and_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    calls: list[int] = []

    def ones(shape: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise AttributeError("partially initialized")
        return np.zeros((1, 1))

    monkeypatch.setitem(sys.modules, "numpy", SimpleNamespace(ones=ones))
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(openmp, "_warmed", SimpleNamespace())
    for _ in range(4):
        warm_openmp()
    assert len(calls) == 2
