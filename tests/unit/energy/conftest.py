from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from titan_nb.energy import FakeSensor, Sampler


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


@pytest.fixture
def simulated() -> FakeSensor:
    """A counter whose readings the test makes up."""
    return FakeSensor(limit_watts=700.0)
