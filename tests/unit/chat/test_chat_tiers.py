"""Chunks between a GPU, RAM and disk: they move as the budgets say, and no search notices."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fakes.accelerator import install, uninstall
from titan_nb.chat import kernels
from titan_nb.chat.chunk import Chunk
from titan_nb.chat.folder import Folder
from titan_nb.chat.gpu import DeviceRows
from titan_nb.chat.local import LocalStore
from titan_nb.chat.store import Batch, Selection
from titan_nb.chat.tiers import Tiers, read_budgets
from titan_nb.errors import ChatError, ResourceError, SettingsError
from titan_nb.memory.reclaim import anyone_yields, ask_yielders

MIB = 1 << 20
DIMENSION = 16
ROWS = 2048  # what a chunk that doubles has room for
SIZE = ROWS * DIMENSION * 4


def unit(count: int, seed: int) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSION))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Memory:
    """A store with its tiers, and what brute force finds in the same rows."""

    def __init__(
        self, budgets: dict[str, int] | None = None, device: str | None = None, **given: Any
    ) -> None:
        self.tiers = Tiers(budgets, device)
        self.store = LocalStore(tiers=self.tiers, **given)
        self.rows = np.empty((0, DIMENSION), dtype=np.float32)
        self.chats: list[str] = []

    def add(self, chat: str, count: int = ROWS) -> None:
        rows = unit(count, len(self.rows))
        nothing = [None] * count
        ids = self.store.add(chat, Batch(rows, nothing, nothing, [0.0] * count))
        assert ids == list(range(len(self.rows), len(self.rows) + count))
        self.rows = np.concatenate((self.rows, rows))
        self.chats += [chat] * count

    def search(self, chat: str | None = None, k: int = 3) -> None:
        """Search, and compare with brute force."""
        queries = unit(2, 10**6 + len(self.rows))
        queries[0] = self.rows[len(self.rows) // 2]
        found = self.store.search(queries, k, Selection(chat))
        assert found.certified
        ids = np.array([number for number, name in enumerate(self.chats) if chat in (None, name)])
        for query, matches in zip(queries, found.found, strict=True):
            scores = (self.rows[ids].astype(np.float64) @ query.astype(np.float64)).round(12)
            best = np.lexsort((ids, -scores))[:k]
            assert [match.item.id for match in matches] == ids[best].tolist()
            assert [match.score for match in matches] == pytest.approx(scores[best].tolist(), abs=2e-12)

    def chunks(self) -> list[Chunk]:
        return list(self.tiers._chunks())

    def where(self) -> list[str]:
        return [
            "gpu" if chunk.index.device_rows is not None else "disk" if chunk.on_disk else "ram"
            for chunk in self.chunks()
        ]


@pytest.fixture
def memory() -> Iterator[Callable[..., Memory]]:
    made: list[Memory] = []

    def make(budgets: dict[str, int] | None = None, device: str | None = None, **given: Any) -> Memory:
        made.append(Memory(budgets, device, **given))
        return made[-1]

    yield make
    for one in made:
        one.store.close()
    assert not anyone_yields()


@pytest.fixture
def device() -> Iterator[Any]:
    found = install(64 * MIB)
    yield found
    uninstall()


def test_budgets_are_read() -> None:
    assert read_budgets(None) == {}
    assert read_budgets({"gpu": "2GiB", "ram": 4 << 30, "disk": np.int64(7)}) == {
        "gpu": 2 << 30,
        "ram": 4 << 30,
        "disk": 7,
    }
    assert read_budgets({"gpu": 0}) == {"gpu": 0}


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"gpus": 1}, "budgets names a tier 'gpus': did you mean 'gpu'"),
        ({"cloud": 1}, "budgets names a tier 'cloud': the tiers are 'gpu', 'ram' and 'disk'"),
        ({1: 1}, "budgets names a tier 1: "),
        ({"ram": "2Gb"}, "the budget of 'ram': cannot use '2Gb': a small b means bits"),
        ({"ram": "much"}, "the budget of 'ram': cannot use 'much'"),
        ({"ram": -1}, "the budget of 'ram' is -1: give bytes, or a text such as '2GiB'"),
        ({"ram": 1.5}, "the budget of 'ram' is 1.5: "),
        ({"ram": True}, "the budget of 'ram' is True: "),
        ({"disk": None}, "the budget of 'disk' is None: "),
        ("2GiB", "budgets is a str: give sizes by tier, such as {'gpu': '2GiB'"),
    ],
)
def test_budgets_that_cannot_be_read(budgets: Any, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_budgets(budgets)
    assert str(caught.value).startswith(message)


def test_without_budgets_nothing_moves(device: Any, memory: Callable[..., Memory]) -> None:
    torch.empty(1, device="fakegpu")
    found = memory()
    found.add("a")
    found.search()
    assert found.where() == ["ram"]
    assert found.store.tiers() == {"gpu": 0, "ram": SIZE, "disk": 0}
    assert found.tiers.yield_bytes(1, "gpu:any") == 0
    assert not anyone_yields()


@pytest.mark.parametrize(
    ("budgets", "name"), [({"gpu": 0}, "fakegpu"), ({"gpu": MIB}, "cpu"), ({"ram": 10 * MIB}, None)]
)
def test_without_a_gpu_of_its_own_there_are_no_copies(
    device: Any, memory: Callable[..., Memory], budgets: dict[str, int], name: str | None
) -> None:
    torch.empty(1, device="fakegpu")
    found = memory(budgets, name)
    found.add("a")
    found.search()
    assert found.where() == ["ram"]


def test_what_was_not_used_for_longest_goes_to_disk(memory: Callable[..., Memory]) -> None:
    found = memory({"ram": 3 * SIZE})
    for chat in "abc":
        found.add(chat)
        found.search(chat)
    assert found.where() == ["ram", "ram", "ram"]
    found.search("a")
    found.add("d")
    assert found.where() == ["ram", "disk", "ram", "ram"]
    report = found.store.tiers()
    assert report["ram"] == 3 * SIZE
    assert SIZE <= report["disk"] < SIZE + 1024
    for chat in "abcd":
        found.search(chat)
    found.search()


def test_it_comes_back_when_it_is_used_and_fits(memory: Callable[..., Memory]) -> None:
    found = memory({"ram": 2 * SIZE})
    for chat in "abc":
        found.add(chat)
    assert found.where() == ["disk", "ram", "ram"]
    found.search("a")
    assert found.where() == ["ram", "disk", "ram"]
    found.search("b")
    assert found.where() == ["ram", "ram", "disk"]
    found.search()  # all at once do not fit, and nothing moves for nothing
    found.search()
    assert found.where() == ["ram", "ram", "disk"]


def test_a_chunk_on_disk_grows_there(memory: Callable[..., Memory]) -> None:
    found = memory({"ram": SIZE})
    for chat in "abab":
        found.add(chat)
    assert found.where() == ["disk", "disk"]
    found.search()
    found.search("a")


def test_codes_go_last(memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "CODED_ROWS", 1)
    found = memory({"ram": SIZE})
    for chat in "ab":
        found.add(chat)
    found.search()
    found.search()
    a, b = found.chunks()
    a.index.extend(a.rows)
    b.index.extend(b.rows)
    codes = a.index.host_bytes
    assert 0 < codes < SIZE
    found.tiers.settle([a, b])
    assert found.where() == ["disk", "disk"]
    assert found.store.tiers()["ram"] == codes * sum(chunk.index.count > 0 for chunk in (a, b)) <= SIZE
    tight = memory({"ram": 0})
    tight.add("a")
    tight.search()
    tight.search()
    assert tight.store.tiers()["ram"] == 0
    tight.search()


def test_a_disk_that_takes_nothing(memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(chunk: Chunk) -> None:
        raise ResourceError("full", requested_bytes=1, available_bytes=0, device="disk")

    found = memory({"ram": SIZE})
    monkeypatch.setattr(Chunk, "to_disk", full)
    for chat in "abc":
        found.add(chat)
    assert found.where() == ["ram"] * 3
    found.search()
    monkeypatch.undo()
    found.add("d")
    assert found.where() == ["disk"] * 3 + ["ram"]
    monkeypatch.setattr(Chunk, "to_ram", full)
    found.search("a")
    assert found.where()[0] == "disk"


def test_the_disk_budget_of_a_memory_in_ram(memory: Callable[..., Memory]) -> None:
    found = memory({"ram": SIZE, "disk": 2 * SIZE + 4096})
    for chat in "abc":
        found.add(chat)
    with pytest.raises(ResourceError) as caught:
        found.add("d")
    assert str(caught.value) == (
        "the chat memory's disk budget of 260 KiB has no room for 128 KiB of rows, 4.0 KiB are left: forget "
        "chats and compact, or give a larger budget"
    )
    assert (caught.value.requested_bytes, caught.value.available_bytes) == (SIZE, 4096)
    assert caught.value.device == "disk"
    found.search()
    found.store.forget(Selection("a"))
    found.store.add("d", Batch(unit(ROWS, 5), [None] * ROWS, [None] * ROWS, [0.0] * ROWS))
    assert found.store.tiers()["disk"] <= 2 * SIZE + 4096


def test_a_disk_budget_keeps_chunks_in_ram(memory: Callable[..., Memory]) -> None:
    found = memory({"ram": SIZE, "disk": SIZE // 2})
    found.add("a")
    with pytest.raises(ResourceError, match="disk budget of 64"):
        found.add("b")
    found.add("b", ROWS // 4)
    assert found.store.tiers()["disk"] <= SIZE // 2
    found.search()


def test_the_disk_budget_of_a_folder(memory: Callable[..., Memory], tmp_path: Any) -> None:
    found = memory({"disk": 2 * SIZE}, folder=Folder.open(tmp_path / "memory", "w"))
    found.add("a")
    with pytest.raises(ResourceError, match="disk budget of 256 KiB has no room for 128 KiB of rows"):
        found.add("a")
    found.add("a", ROWS // 2)
    found.search()
    assert found.where() == ["disk"]


def test_a_disk_budget_is_no_matter_of_a_memory_that_stays_in_ram(memory: Callable[..., Memory]) -> None:
    found = memory({"disk": 1})
    found.add("a")
    found.search()


def test_copies_on_a_gpu(device: Any, memory: Callable[..., Memory], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    scores = DeviceRows.scores

    def noted(rows: DeviceRows, queries: np.ndarray) -> Any:
        asked.append(rows.device)
        return scores(rows, queries)

    monkeypatch.setattr(DeviceRows, "scores", noted)
    found = memory({"gpu": MIB}, "fakegpu")
    found.add("a")
    found.add("b")
    assert found.where() == ["ram", "ram"]
    found.search("b")
    assert found.where() == ["ram", "gpu"]
    found.search()
    assert asked == ["fakegpu:0"] * 3
    report = found.store.tiers()
    assert report == {"gpu": 2 * ROWS * (2 * DIMENSION + 4), "ram": 2 * SIZE, "disk": 0}
    key = f"gpu:GPU-{device.get_device_properties(0).uuid}"
    assert ask_yielders(report["gpu"], key) == report["gpu"]
    assert found.where() == ["ram", "ram"]
    found.search()
    assert found.where() == ["gpu", "gpu"]
    found.store.forget(Selection("a"))
    gc.collect()  # what a search has seen goes in its own time
    assert found.store.tiers()["gpu"] == report["gpu"] // 2


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from("abc"), st.sampled_from([1, 700, 1500, 3000])),
        st.tuples(st.just("search"), st.sampled_from(["a", "b", "c", None]), st.integers(1, 5)),
        st.tuples(st.just("yield"), st.sampled_from([1, 10**5, 10**9])),
        st.tuples(st.just("full"), st.booleans()),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(
    gpu=st.sampled_from([0, 50_000, 10**9]),
    ram=st.sampled_from([0, 200_000, 10**9]),
    coded=st.booleans(),
    actions=ACTIONS,
)
@example(gpu=50_000, ram=0, coded=False, actions=[("search", "a", 1), ("full", True)])
def test_no_search_notices_where_chunks_are(
    gpu: int, ram: int, coded: bool, actions: list[tuple[Any, ...]]
) -> None:
    device = install(64 * MIB)
    key = f"gpu:GPU-{device.get_device_properties(0).uuid}"
    full = contextlib.ExitStack()
    with pytest.MonkeyPatch.context() as patch, full:
        patch.setattr(kernels, "CODED_ROWS", 1 if coded else 10**9)
        found = Memory({"gpu": gpu, "ram": ram}, "fakegpu" if gpu else None)
        found.add("a", 1200)
        for action, *given_ in actions:
            if action == "add":
                found.add(*given_)
            elif action == "search" and given_[0] in (None, *found.chats):
                found.search(*given_)
            elif action == "yield":
                ask_yielders(given_[0], key)
            elif action == "full":
                full.close()
                if given_[0]:
                    device.empty_cache()
                    full.enter_context(device.hold(device.mem_get_info(0)[0]))
        found.search()
        report = found.store.tiers()
        assert report["gpu"] <= gpu
        assert report["ram"] <= ram
        found.store.close()
    uninstall()


def test_compacting_keeps_to_the_budget() -> None:
    budget = 2 * SIZE
    memory = Memory({"ram": budget})
    for chat in "abc":
        memory.add(chat)
    memory.store.forget(Selection(ids=(1, ROWS + 1, 2 * ROWS + 1)))
    memory.store.compact()
    assert 0 < memory.store.tiers()["ram"] <= budget
    memory.store.close()


def test_a_temporary_folder_that_cannot_be_made_fails_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("tempfile.mkdtemp", failing)
    memory = Memory({"ram": SIZE})
    memory.add("a")
    memory.add("b")
    memory.search()
    memory.store.close()


def test_a_file_that_cannot_be_made_fails_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> None:
        raise ChatError("making a file for rows failed")

    monkeypatch.setattr("titan_nb.chat.scratch.Segment.create", failing)
    memory = Memory({"ram": SIZE})
    memory.add("a")
    memory.add("b")
    memory.search()
    memory.store.close()
