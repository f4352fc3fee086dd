from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from titan_nb.energy import Discovery, FakeSensor, Finding, Meter, Sampler


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


@pytest.fixture
def make(sampler: Sampler) -> Iterator[Callable[..., Meter]]:
    meters: list[Meter] = []

    def make(*sensors: FakeSensor, discover: Any = None, **options: Any) -> Meter:
        search = discover or (lambda: Discovery(tuple(sensors), (Finding("d", "m", True, "w"),)))
        meters.append(Meter(search, sampler, **options))
        return meters[-1]

    yield make
    for meter in meters:
        meter.close()
