"""Copies of chunks on the fake GPU: who gets one, who loses it, and who is asked to."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.fakes.accelerator import install, uninstall
from titan_nb.chat import copies
from titan_nb.chat.copies import Copies
from titan_nb.chat.gpu import DeviceRows
from titan_nb.chat.index import Index
from titan_nb.errors import SettingsError
from titan_nb.memory.reclaim import anyone_yields, ask_yielders

MIB = 1 << 20
ROWS = 2000
DIMENSION = 64
SIZE = DeviceRows.bytes_needed(ROWS, DIMENSION)
ROOM = 64 * MIB

Table = tuple[Index, np.ndarray]


@pytest.fixture
def device() -> Iterator[Any]:
    found = install(ROOM)
    yield found
    assert not anyone_yields()
    uninstall()


@pytest.fixture
def key(device: Any) -> str:
    return f"gpu:GPU-{device.get_device_properties(0).uuid}"


@pytest.fixture
def made() -> Iterator[list[Copies]]:
    found: list[Copies] = []
    yield found
    for one in found:
        one.close()


def table(count: int = ROWS) -> Table:
    rows = np.random.default_rng(count).standard_normal((count, DIMENSION)).astype(np.float32)
    return Index(DIMENSION), rows / np.linalg.norm(rows, axis=1, keepdims=True)


def copied(*tables: Table) -> list[int]:
    return [0 if index.device_rows is None else index.device_rows.count for index, _ in tables]


@pytest.fixture
def three(made: list[Copies]) -> tuple[Copies, list[Table]]:
    made.append(Copies(2 * SIZE, "fakegpu"))
    return made[0], [table() for _ in range(3)]


def test_who_was_not_used_for_longest_goes(device: Any, three: tuple[Copies, list[Table]]) -> None:
    found, (a, b, c) = three
    found.use([a])
    found.use([b])
    assert copied(a, b, c) == [ROWS, ROWS, 0]
    found.use([a])
    found.use([c])
    assert copied(a, b, c) == [ROWS, 0, ROWS]
    assert found.device_bytes == 2 * SIZE


def test_one_search_does_not_push_its_own_parts_out(device: Any, three: tuple[Copies, list[Table]]) -> None:
    found, tables = three
    for _ in range(2):
        found.use(tables)
        assert copied(*tables) == [ROWS, ROWS, 0]
        kept = tables[0][0].device_rows
    found.use(tables)
    assert tables[0][0].device_rows is kept


def test_what_could_not_be_enough_is_not_dropped(device: Any, three: tuple[Copies, list[Table]]) -> None:
    found, (a, b, _) = three
    found.use([a])
    found.use([b])
    large = table(3 * ROWS)
    found.use([large])
    assert copied(a, b, large) == [ROWS, ROWS, 0]
    assert found.device_bytes == 2 * SIZE


def test_copies_grow_with_their_chunks(device: Any, made: list[Copies]) -> None:
    made.append(Copies(4 * SIZE, "fakegpu"))
    index, rows = table(2 * ROWS)
    made[0].use([(index, rows[:ROWS])])
    copy = index.device_rows
    made[0].use([(index, rows[: ROWS + 5])])
    assert index.device_rows is copy
    assert copied((index, rows)) == [ROWS + 5]
    assert made[0].device_bytes == 2 * SIZE
    made[0].use([(index, np.concatenate((rows, rows)))])  # 4 SIZE in all, and 2 of them are there
    assert copied((index, rows)) == [4 * ROWS]
    longer = np.concatenate((rows, rows, rows[:1]))
    made[0].use([(index, longer)])  # no room to grow: the host scores the rest
    assert copied((index, rows)) == [4 * ROWS]


def test_a_few_rows_are_not_worth_it(device: Any, made: list[Copies]) -> None:
    made.append(Copies(None, "fakegpu"))
    few = table(copies._FEWEST_ROWS - 1)
    made[0].use([few])
    assert copied(few) == [0]
    assert not anyone_yields()


def test_a_part_of_the_device_stays_free(device: Any, made: list[Copies]) -> None:
    made.append(Copies(None, "fakegpu"))
    a, b = table(), table()
    torch.empty(1, device="fakegpu")
    with device.hold(int(0.8 * ROOM) - SIZE):
        made[0].use([a, b])
        assert copied(a, b) == [0, 0]
    device.empty_cache()
    with device.hold(int(0.8 * ROOM) - 2 * SIZE):
        made[0].use([a, b])
        assert copied(a, b) == [ROWS, 0]
    made[0].use([a, b])
    assert copied(a, b) == [ROWS, ROWS]


def test_a_device_that_runs_out_all_the_same(
    device: Any, made: list[Copies], monkeypatch: pytest.MonkeyPatch
) -> None:
    made.append(Copies(None, "fakegpu"))
    a, b = table(), table()
    made[0].use([a])
    monkeypatch.setattr(copies, "spare_bytes", lambda *_: None)
    device.empty_cache()
    with device.hold(device.mem_get_info(0)[0]):
        made[0].use([b])
    assert copied(a, b) == [0, 0]  # somebody needs what there is


def test_a_broken_device_is_left_alone(device: Any, made: list[Copies]) -> None:
    made.append(Copies(None, "fakegpu"))
    a = table()
    made[0].use([a])
    device.break_device()
    try:
        b = table()
        made[0].use([b])
        assert copied(b) == [0]
    finally:
        device.repair_device()


def test_others_get_the_room_when_they_ask(device: Any, key: str, made: list[Copies]) -> None:
    made.append(Copies(None, "fakegpu"))
    tables = [table() for _ in range(3)]
    assert not anyone_yields()
    for one in tables:
        made[0].use([one])
    assert ask_yielders(SIZE + 1, "gpu:GPU-another") == 0
    before = device.memory_allocated(0)
    assert ask_yielders(SIZE + 1, key) == 2 * SIZE
    assert before - device.memory_allocated(0) >= 2 * SIZE
    assert copied(*tables) == [0, 0, ROWS]
    assert ask_yielders(10 * SIZE, key) == SIZE
    assert ask_yielders(1, key) == 0
    made[0].use(tables)
    assert copied(*tables) == [ROWS] * 3
    made[0].close()
    assert copied(*tables) == [0] * 3
    assert ask_yielders(1, key) == 0


def test_nobody_starts_a_device_for_this(device: Any, made: list[Copies]) -> None:
    made.append(Copies(10 * SIZE, None))
    a = table()
    made[0].use([a])
    assert copied(a) == [0]
    assert not device.is_initialized()
    assert made[0].yield_bytes(1, "gpu:any") == 0
    torch.empty(1, device="fakegpu")
    made[0].use([a])
    assert copied(a) == [ROWS]
    assert a[0].device_rows is not None
    assert a[0].device_rows.device == "fakegpu:0"


def test_a_copy_goes_with_its_chunk_and_all_with_their_memory(device: Any, key: str) -> None:
    found = Copies(None, "fakegpu")
    a, b = table(), table()
    found.use([a, b])
    del a
    assert found.device_bytes == SIZE
    alive = weakref.ref(found)
    del found
    gc.collect()
    assert alive() is None
    assert anyone_yields()
    assert ask_yielders(1, key) == 0
    assert not anyone_yields()  # and who is gone is not asked again


def test_a_device_that_cannot_be_used() -> None:
    with pytest.raises(SettingsError, match="device 'cuda:0' cannot be used here"):
        Copies(None, "cuda:0")
