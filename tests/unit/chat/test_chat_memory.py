"""The chat memory as its users see it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import torch

from titan_nb import chat
from titan_nb.chat import ChatMemory, Hit, MemoryStats
from titan_nb.chat import chunk as chunk_module
from titan_nb.errors import ChatError, ResourceError, SettingsError

AXES = torch.eye(3)


def test_add_search_forget() -> None:
    memory = ChatMemory()
    assert memory.add("first", AXES[:2], texts=["x", None], metadata=[{"page": 1}, None]) == [0, 1]
    assert memory.add("second", AXES[2:] * 7) == [2]
    assert memory.search(torch.tensor([2.0, 1.0, 0.0]), k=2) == [
        Hit(0, "first", pytest.approx(2 / 5**0.5), "x", {"page": 1}),
        Hit(1, "first", pytest.approx(1 / 5**0.5), None, None),
    ]
    assert [hit.id for hit in memory.search([0.0, 0.1, 1.0], chat_id="first")] == [1, 0]
    assert memory.chats() == ["first", "second"]
    assert "first" in memory
    assert "third" not in memory
    assert len(memory) == 3
    assert memory.forget("first") == 2
    assert memory.forget("first") == 0
    assert memory.search([1.0, 0.0, 0.0], chat_id="first") == []
    assert memory.add("first", AXES) == [3, 4, 5]
    assert [hit.id for hit in memory.search([0.0, 0.0, 1.0], k=2)] == [2, 5]


def test_equal_scores_are_ordered_by_id_over_all_chats() -> None:
    memory = ChatMemory()
    row = torch.linspace(0.1, 1.0, 37)
    for number in range(60):
        memory.add(f"chat {number % 3}", row[None, :])
    hits = memory.search(row, k=25)
    assert [hit.id for hit in hits] == list(range(25))
    assert len({hit.score for hit in hits}) == 1


@pytest.mark.parametrize("dimension", [384, 40_000, 70_001])
def test_equal_rows_tie_in_chats_of_any_size(dimension: int) -> None:
    """Long sums are split among threads in another way for one row than for seven."""
    torch.manual_seed(dimension)
    row = torch.randn(dimension)
    memory = ChatMemory()
    for chat_id, count in (("one", 1), ("seven", 7), ("two", 2), ("another", 1)):
        memory.add(chat_id, row.repeat(count, 1))
    hits = memory.search(row + 0.7 * torch.randn(dimension), k=20)
    assert [hit.id for hit in hits] == list(range(11))


def test_an_empty_memory_has_no_hits_and_takes_any_dimension() -> None:
    memory = ChatMemory()
    assert memory.search([1.0, 2.0]) == []
    memory.add("a", AXES)
    memory.forget("a")
    assert memory.stats().dimension is None
    assert memory.add("a", torch.ones(1, 5)) == [3]
    assert memory.stats().dimension == 5


def test_one_dimension_per_memory() -> None:
    memory = ChatMemory()
    memory.add("a", AXES)
    with pytest.raises(ChatError, match="row 0 has 4 numbers, and this memory holds rows of 3"):
        memory.add("b", torch.ones(2, 4))
    assert memory.chats() == ["a"]


def test_a_dimension_settled_by_another_thread_meanwhile_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = ChatMemory()
    normalise = chat.memory.normalise

    def slow(rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        if rows.shape[1] == 4:
            memory.add("quick", AXES)
        return normalise(rows, device)

    monkeypatch.setattr(chat.memory, "normalise", slow)
    with pytest.raises(ChatError, match="row 0 has 4 numbers"):
        memory.add("slow", torch.ones(2, 4))
    assert memory.chats() == ["quick"]


@pytest.mark.parametrize("k", [0, -1, True, 1.0, "5", None])
def test_k_must_be_a_whole_number_of_at_least_one(k: object) -> None:
    memory = ChatMemory()
    memory.add("a", AXES)
    with pytest.raises(ChatError, match="k is"):
        memory.search([1.0, 0.0, 0.0], k=k)  # type: ignore[arg-type]


def test_k_may_be_larger_than_the_memory() -> None:
    memory = ChatMemory()
    memory.add("a", AXES)
    assert len(memory.search([1.0, 0.0, 0.0], k=np.int64(10))) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("chat_id", ["", None, 3, b"a", ["a"]])
def test_chat_ids_are_texts(chat_id: object) -> None:
    memory = ChatMemory()
    with pytest.raises(ChatError, match="chat_id is"):
        memory.add(chat_id, AXES)  # type: ignore[arg-type]
    with pytest.raises(ChatError, match="chat_id is"):
        memory.forget(chat_id)  # type: ignore[arg-type]
    if chat_id is not None:
        with pytest.raises(ChatError, match="chat_id is"):
            memory.search([1.0], chat_id=chat_id)  # type: ignore[arg-type]
    assert len(memory) == 0


class TestInput:
    def test_the_input_is_not_modified(self) -> None:
        for table in (torch.rand(5, 3), torch.rand(5, 3, dtype=torch.float64), torch.rand(3, 5).T):
            copy, memory = table.clone(), ChatMemory()
            memory.add("a", table)
            memory.search(table[0])
            chat.process_embeddings(table)
            assert torch.equal(table, copy)
            assert table.stride() == copy.stride()
            table.mul_(-1.0)
            assert memory.search(copy[0])[0].score == pytest.approx(1.0, abs=1e-6)

    @pytest.mark.parametrize("kind", ["tensor", "graph", "array"])
    def test_the_input_is_not_kept_alive(self, kind: str) -> None:
        # The array owns the numbers: it dies only when all tensors and graphs on them are gone.
        base = np.random.rand(4, 3)
        table = base if kind == "array" else torch.from_numpy(base)
        if kind == "graph":
            table = table.requires_grad_() * table
        memory = ChatMemory()
        memory.add("a", table)
        memory.add("a", table)
        memory.search(table[0])
        processed = chat.process_embeddings(table)
        assert not processed.requires_grad
        died = weakref.ref(base)
        del base
        gc.collect()
        assert died() is not None
        del table
        gc.collect()
        assert died() is None
        assert len(memory) == 8

    def test_rows_added_in_inference_mode_can_be_added_to_outside(self) -> None:
        memory = ChatMemory()
        memory.add("a", AXES)
        with torch.inference_mode():
            # The tensor grows here, and has room for the rows that come later.
            memory.add("a", (AXES * 1).repeat(2, 1))
            memory.add("a", AXES[:1] * 1)
            assert len(memory.search(AXES[0] * 1, k=20)) == 10
        memory.add("a", AXES)
        assert [hit.id for hit in memory.search(AXES[0], k=5)] == [0, 3, 6, 9, 10]

    def test_autocast_of_the_user_does_not_round_scores(self) -> None:
        torch.manual_seed(0)
        table = torch.randn(200, 64)
        memory = ChatMemory()
        memory.add("a", table)
        plain = memory.search(table[7] + table[9])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert memory.search(table[7] + table[9]) == plain

    def test_the_random_state_of_the_user_is_left_alone(self) -> None:
        before = torch.get_rng_state()
        memory = ChatMemory()
        memory.add("a", AXES)
        memory.search(AXES[0])
        assert torch.equal(before, torch.get_rng_state())


class TestStats:
    def test_what_is_stored(self) -> None:
        memory = ChatMemory()
        assert memory.stats() == MemoryStats(0, 0, 0, None, "cpu", {})
        memory.add("a", AXES)
        memory.add("b", AXES[:1])
        memory.add("b", AXES[:2])
        stats = memory.stats()
        assert (stats.chats, stats.rows, stats.dimension, stats.device) == (2, 6, 3, "cpu")
        assert list(stats.per_chat) == ["a", "b"]
        assert [(c.rows, c.bytes, c.dimension) for c in stats.per_chat.values()] == [(3, 36, 3), (3, 36, 3)]
        assert stats.bytes == 72
        age = datetime.now(timezone.utc) - datetime.fromisoformat(stats.per_chat["b"].last_added)
        assert timedelta(0) <= age < timedelta(minutes=1)

    def test_the_tensor_grows_by_doubling(self) -> None:
        memory = ChatMemory()
        capacities = []
        for _ in range(9):
            memory.add("a", AXES[:1])
            capacities.append(memory.stats().bytes // 12)
        assert capacities == [1, 2, 4, 4, 8, 8, 8, 8, 16]
        assert len(memory) == 9
        assert len(memory.search(AXES[0], k=20)) == 9

    def test_records_are_frozen(self) -> None:
        memory = ChatMemory()
        memory.add("a", AXES)
        with pytest.raises(FrozenInstanceError):
            memory.search(AXES[0])[0].score = 0.0  # type: ignore[misc]
        with pytest.raises(FrozenInstanceError):
            memory.stats().rows = 0  # type: ignore[misc]

    def test_repr(self) -> None:
        memory = ChatMemory()
        assert repr(memory) == "<ChatMemory: empty, on cpu>"
        memory.add("a", AXES)
        assert repr(memory) == "<ChatMemory: 3 rows of 3 numbers in 1 chat, on cpu>"
        memory.add("b", AXES)
        assert repr(memory) == "<ChatMemory: 6 rows of 3 numbers in 2 chats, on cpu>"


class TestFailure:
    def test_a_failed_growth_stores_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        memory = ChatMemory()
        memory.add("a", AXES)
        before = memory.stats()

        def full(*_sizes: object, **_options: object) -> torch.Tensor:
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 72 bytes"
            )

        unit = chat.process_embeddings(AXES)
        with monkeypatch.context() as patch:
            patch.setattr(chat.memory, "normalise", lambda *_: unit)
            patch.setattr(torch, "empty", full)
            with pytest.raises(ResourceError, match="6 rows of 3") as raised:
                memory.add("a", AXES)
        assert raised.value.requested_bytes == 6 * 3 * 4
        assert raised.value.available_bytes is not None
        assert raised.value.available_bytes > 0
        assert memory.stats() == before
        memory.add("a", AXES)
        assert len(memory.search(AXES[0], k=9)) == 6

    def test_an_interrupt_in_the_middle_of_an_add_leaves_whole_rows(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory = ChatMemory()
        memory.add("a", AXES, texts=["x", "y", "z"])

        def interrupt() -> str:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(chunk_module, "_now", interrupt)
            with pytest.raises(KeyboardInterrupt):
                memory.add("a", -AXES, texts=["lost"] * 3)
        assert len(memory) == 3
        ids = memory.add("a", -AXES, texts=["-x", "-y", "-z"])
        assert min(ids) > 2
        assert [(hit.id, hit.text) for hit in memory.search(-AXES[1], k=1)] == [(ids[1], "-y")]

    def test_other_errors_of_torch_are_passed_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        memory = ChatMemory()
        memory.add("a", AXES)

        def broken(*_sizes: object, **_options: object) -> torch.Tensor:
            raise RuntimeError("something else")

        unit = chat.process_embeddings(AXES)
        monkeypatch.setattr(chat.memory, "normalise", lambda *_: unit)
        monkeypatch.setattr(torch, "empty", broken)
        with pytest.raises(RuntimeError, match="something else"):
            memory.add("a", AXES)


def test_threads_add_search_and_forget_at_the_same_time() -> None:
    memory = ChatMemory()
    given: dict[str, list[int]] = {}
    problems: list[BaseException] = []

    def work(name: str, sign: float) -> None:
        try:
            ids = []
            for _ in range(150):
                ids += memory.add(name, sign * AXES, texts=[name] * 3)
                best = memory.search(sign * AXES[1], k=1, chat_id=name)[0]
                assert (best.id, best.text) == (ids[1], name)
                memory.add(f"{name} for a moment", sign * AXES[:1])
                memory.search(AXES[2], k=3)
                assert memory.forget(f"{name} for a moment") == 1
                memory.stats()
            given[name] = ids
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(f"chat {i}", 1.0 - 2.0 * i)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not problems
    assert len(memory) == 900
    assert len(set(given["chat 0"]) | set(given["chat 1"])) == 900
    for name, ids in given.items():
        assert ids == sorted(ids)
        sign = 1.0 if name == "chat 0" else -1.0
        assert [hit.id for hit in memory.search(sign * AXES[0], k=150, chat_id=name)] == ids[::3]


@pytest.mark.parametrize("device", ["meta", "no such device", object()])
def test_a_device_that_cannot_be_used_is_refused(device: object) -> None:
    with pytest.raises(SettingsError, match="device"):
        ChatMemory(device=device)  # type: ignore[arg-type]


def test_the_kernels_own_memory_is_one() -> None:
    assert chat.default() is chat.default()
    assert isinstance(chat.default(), ChatMemory)


def test_import_and_an_empty_memory_load_neither_torch_nor_numpy() -> None:
    code = (
        "import json, sys, titan_nb.chat as chat; memory = chat.default(); memory.chats(); memory.stats();"
        "print(json.dumps([name in sys.modules for name in ('torch', 'numpy', 'pandas', 'psutil')]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == [False] * 4


@pytest.mark.gpu
def test_the_same_answers_on_a_gpu() -> None:
    torch.manual_seed(0)
    table = torch.randn(3000, 96)
    host, device = ChatMemory(), ChatMemory(device="cuda")
    for memory in (host, device):
        memory.add("a", table[:2000])
        memory.add("b", table[2000:].cuda())
    for row in table[::500]:
        near = row + 0.5 * torch.randn(96)
        on_host, on_device = host.search(near), device.search(near.cuda())
        assert [hit.id for hit in on_host] == [hit.id for hit in on_device]
        assert [hit.score for hit in on_host] == pytest.approx([hit.score for hit in on_device], abs=1e-6)
    assert device.stats().device == "cuda:0"
    before = torch.cuda.memory_allocated()
    device.forget("a")
    assert before - torch.cuda.memory_allocated() >= 2000 * 96 * 4
