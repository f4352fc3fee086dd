from __future__ import annotations

import importlib.util
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from titan_nb.energy import Sampler

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="session")
def cpu_threads_script() -> ModuleType:
    path = ROOT / "scripts" / "make_cpu_threads.py"
    spec = importlib.util.spec_from_file_location("make_cpu_threads", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def cpu_threads_wheel(cpu_threads_script: ModuleType) -> Path:
    return cpu_threads_script.fetch()


@pytest.fixture
def sampler() -> Iterator[Sampler]:
    before = set(threading.enumerate())
    sampler = Sampler(stuck_after=0.15)
    yield sampler
    sampler.stop()
    for thread in set(threading.enumerate()) - before:
        if thread.name == "titan-sampler":
            thread.join(5)  # one that was given up


class Clock:
    """A clock that stands still until it is told to move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()
