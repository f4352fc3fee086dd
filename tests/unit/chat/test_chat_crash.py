"""What is left of a memory after kill -9 and after a loss of power: all that was acknowledged."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.storage import Disk, Operation, coin, library, read_recording
from tests.fakes.storage.checks import contents, fast_folder, reopened
from tests.fakes.storage.writer import State
from tests.fakes.storage.writers import FOR_EVER, Said, Writers


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    with fast_folder(tmp_path) as folder:
        yield folder


@pytest.fixture
def writers() -> Iterator[Writers]:
    writers = Writers()
    yield writers
    writers.close()


def kill_at_random(writers: Writers, folder: Path, rounds: int, seed: int) -> dict[str, int]:
    """Kill one writer after the other at a random moment; return in the middle of what they were."""
    source = random.Random(seed)
    caught: dict[str, int] = {}
    state: State = {}
    for turn in range(rounds):
        said = Said(state)
        process = writers.start(folder, seed + turn, FOR_EVER)
        for _ in range(source.choice([0, *[source.randrange(60)] * 5])):
            said.hear(writers.line())
        time.sleep(source.random() * 0.004)
        os.kill(process, 9)
        while said.ended is None:
            said.hear(writers.line())
        assert said.ended == 9
        doing = "opening" if "open" not in said.words else "nothing"
        if said.intended is not None:
            doing = said.intended["do"]
        caught[doing] = caught.get(doing, 0) + 1
        if not folder.exists():
            continue
        state = reopened(folder)
        assert state in said.possible(), f"round {turn}, killed in the middle of {doing}"
    return caught


def test_kill_9_at_15_random_moments(writers: Writers, tmp_path: Path) -> None:
    """The small version of the 200 below."""
    caught = kill_at_random(writers, tmp_path / "memory", 15, 1)
    assert sum(caught.values()) == 15


@pytest.mark.slow
def test_kill_9_at_200_random_moments(writers: Writers, tmp_path: Path) -> None:
    caught = kill_at_random(writers, tmp_path / "memory", 200, 1000)
    print(caught)
    assert sum(caught.values()) == 200
    assert caught.keys() >= {"opening", "add", "update", "forget", "compact"}


def recorded(place: Path, seed: int, steps: int) -> list[Operation]:
    """Return what a writer does with its disk, and says, in order."""
    root = place / "disk"
    root.mkdir()
    log = place / "log"
    environment = {"TITAN_RECORD_ROOT": str(root), "TITAN_RECORD_LOG": str(log)}
    writers = Writers(LD_PRELOAD=str(library()), **environment)
    try:
        writers.start(root / "memory", seed, steps)
        while json.loads(writers.line())[0] != "ended":
            pass
    finally:
        writers.close()
    return read_recording(log, root)


def replay(operations: list[Operation], place: Path, seed: int, cuts_each: int) -> dict[str, int]:
    """Let the power go at every acknowledgement, and at some moments in between.

    At each acknowledgement all that was not synced is lost. In between, and there too, some of it arrives.
    """
    source = random.Random(seed)
    disk, said = Disk(), Said({})
    tried = {"at an acknowledgement": 0, "in between": 0}
    for operation in operations:
        disk.play(operation)
        acknowledged = False
        if operation.kind == "say":
            said.hear(operation.data.decode())
            acknowledged = said.words[-1] == "done"
        if acknowledged:
            lost = place / "lost"
            disk.save(lost)
            assert reopened(lost / "memory") == said.state, f"after change {said.changes}"
            shutil.rmtree(lost)
            tried["at an acknowledgement"] += 1
        if said.words and source.random() < cuts_each / 20:
            lost = place / "lost"
            chance = source.choice([0.0, 0.1, 0.5, 0.9, 1.0])
            disk.save(lost, coin(source.randrange(1 << 30), chance))
            if (lost / "memory").exists():
                state = reopened(lost / "memory")
                assert state in said.possible(), f"after change {said.changes}, {chance:.0%} arrived"
                tried["in between"] += 1
            shutil.rmtree(lost)
    return tried


def test_what_is_acknowledged_outlives_a_loss_of_power(tmp_path: Path, in_memory: Path) -> None:
    """The small version of the one below."""
    tried = replay(recorded(tmp_path, 5, 40), in_memory, 5, 1)
    assert tried["at an acknowledgement"] == 40
    assert tried["in between"] >= 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_what_is_acknowledged_outlives_a_loss_of_power_at_any_moment(
    tmp_path: Path, in_memory: Path, seed: int
) -> None:
    tried = replay(recorded(tmp_path, seed, 300), in_memory, seed, 10)
    print(tried)
    assert tried["at an acknowledgement"] == 300


def test_the_recording_misses_nothing(tmp_path: Path) -> None:
    operations = recorded(tmp_path, 7, 30)
    disk = Disk()
    for operation in operations:
        disk.play(operation)
    disk.save(tmp_path / "all", lambda: True)
    assert contents(tmp_path / "all") == contents(tmp_path / "disk")
    kinds = {operation.kind for operation in operations}
    assert kinds == {"create", "write", "truncate", "rename", "unlink", "mkdir", "sync", "say"}
