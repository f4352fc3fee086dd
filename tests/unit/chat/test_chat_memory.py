"""The chat memory as its users see it."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import weakref
from datetime import datetime, timezone

import numpy as np
import pytest
import torch

from titan_nb import chat
from titan_nb.chat import ChatMemory, Hit
from titan_nb.errors import ChatError, SettingsError

AXES = torch.eye(3)


def test_add_search_forget() -> None:
    memory = ChatMemory()
    assert memory.add("first", AXES[:2], texts=["x", None], metadata=[{"page": 1}, None]) == [0, 1]
    assert memory.add("second", AXES[2:] * 7) == [2]
    found = memory.search(torch.tensor([2.0, 1.0, 0.0]), k=2)
    times = [hit.time for hit in found]
    assert found == [
        Hit(0, "first", pytest.approx(2 / 5**0.5), "x", {"page": 1}, times[0]),
        Hit(1, "first", pytest.approx(1 / 5**0.5), None, None, times[1]),
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
    assert memory.add("a", torch.ones(1, 5)) == [3]
    assert memory.stats().per_chat["a"].dimension == 5


def test_one_dimension_per_chat() -> None:
    memory = ChatMemory()
    memory.add("a", AXES)
    with pytest.raises(ChatError, match="row 0 has 4 numbers, and chat 'a' holds rows of 3"):
        memory.add("a", torch.ones(2, 4))
    assert len(memory) == 3


def test_k_may_be_larger_than_the_memory() -> None:
    memory = ChatMemory()
    memory.add("a", AXES)
    assert len(memory.search([1.0, 0.0, 0.0], k=np.int64(10))) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("chat_id", ["", None, 3, b"a", ["a"]])
def test_chat_ids_are_texts(chat_id: object) -> None:
    memory = ChatMemory()
    with pytest.raises(ChatError, match="chat_id is"):
        memory.add(chat_id, AXES)  # type: ignore[arg-type]
    with pytest.raises(ChatError, match="chat_id"):
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


class TestItems:
    def test_get_list_and_update(self) -> None:
        memory = ChatMemory()
        moment = datetime(2026, 11, 1, tzinfo=timezone.utc)
        memory.add("a", AXES, ["x", "y", "z"], {"n": 1}, times=moment, ids=[5, 3, 9])
        item = memory.get(3, embeddings=True)
        assert (item.id, item.chat_id, item.text, item.metadata, item.time) == (3, "a", "y", {"n": 1}, moment)
        assert item.embedding.tolist() == [0.0, 1.0, 0.0]
        assert [one.text for one in memory.get([9, 5])] == ["z", "x"]
        assert [one.id for one in memory.list()] == [3, 5, 9]
        assert [one.embedding for one in memory.list("a")] == [None] * 3
        memory.update(3, text=None, metadata={"n": 2}, embedding=[0.0, 0.0, -2.0])
        changed = memory.get(3, embeddings=True)
        assert (changed.text, changed.metadata, changed.embedding.tolist()) == (None, {"n": 2}, [0, 0, -1])
        assert memory.search([0.0, 0.0, -1.0], k=1)[0].id == 3
        assert [one.id for one in memory.list(where={"n": {"$gte": 2}})] == [3]

    def test_what_is_not_there(self) -> None:
        memory = ChatMemory()
        memory.add("a", AXES)
        with pytest.raises(ChatError, match="there is no item 7"):
            memory.get(7)
        with pytest.raises(ChatError, match=r"there is no item 7 \(and 1 more of those asked for\)"):
            memory.get([0, 7, 8])
        with pytest.raises(ChatError, match="7"):
            memory.update(7, text="x")
        with pytest.raises(ChatError, match="say what to change"):
            memory.update(1)
        with pytest.raises(ChatError, match="a table of 3 rows"):
            memory.update(1, embedding=AXES)

    def test_ids_of_ones_own_are_taken_once(self) -> None:
        memory = ChatMemory()
        assert memory.add("a", AXES, ids=[4, 2, 7]) == [4, 2, 7]
        with pytest.raises(ChatError, match="7"):
            memory.add("b", AXES, ids=[8, 7, 9])
        assert memory.chats() == ["a"]
        assert memory.add("b", AXES[:1]) == [8]

    def test_forget_says_what(self) -> None:
        memory = ChatMemory()
        with pytest.raises(ChatError, match="say what to forget"):
            memory.forget()
        memory.add("a", AXES, metadata=[{"n": n} for n in range(3)], times=[10, 20, 30])
        assert memory.forget(ids=[0, 99]) == 1
        assert memory.forget(where={"n": 1}, since=20, until=21) == 1
        assert [item.id for item in memory.list()] == [2]
        assert memory.forget("a", until=30) == 0
        assert memory.forget("a") == 1
        assert memory.chats() == []


class TestSearch:
    def test_a_table_of_queries_gives_a_list_each(self) -> None:
        memory = ChatMemory()
        memory.add("a", AXES)
        found = memory.search(AXES * 2, k=1)
        assert [[hit.id for hit in hits] for hits in found] == [[0], [1], [2]]
        assert all(hits.certified for hits in found)
        assert [hits[0].id for hits in memory.search(np.eye(3)[:1], k=1)] == [0]

    def test_filters(self) -> None:
        memory = ChatMemory()
        memory.add("a", AXES, metadata=[{"who": "me"}, {"who": "you"}, None], times=[10, 20, 30])
        query = [1.0, 0.9, 0.8]
        assert [hit.id for hit in memory.search(query, where={"who": "you"})] == [1]
        assert [hit.id for hit in memory.search(query, since=20)] == [1, 2]
        assert [hit.id for hit in memory.search(query, until=datetime.fromtimestamp(20))] == [0]
        assert memory.search(query, where={"who": "nobody"}) == []

    def test_only_chats_of_the_querys_dimension_are_searched(self) -> None:
        memory = ChatMemory()
        memory.add("a", AXES)
        memory.add("b", torch.ones(1, 4))
        assert [hit.chat_id for hit in memory.search([1.0, 0.0, 0.0], k=9)] == ["a"] * 3
        with pytest.raises(ChatError, match="the query has 3 numbers, and chat 'b' holds rows of 4"):
            memory.search([1.0, 0.0, 0.0], chat_id="b")
        with pytest.raises(ChatError, match="5"):
            memory.search([1.0] * 5)

    def test_hits_as_a_frame(self) -> None:
        memory = ChatMemory()
        memory.add("a", AXES, ["x", "y", "z"])
        frame = memory.search([1.0, 0.0, 0.0], k=2).to_frame()
        assert list(frame.columns) == ["score", "text", "time", "chat", "id", "metadata"]
        assert frame["text"].tolist() == ["x", "y"]


class TestEncoders:
    def test_texts_through_a_function(self) -> None:
        memory = ChatMemory(encoder=letters)
        assert memory.add("a", ["aa", "bb"]) == [0, 1]
        hits = memory.recall("b", k=1)
        assert [(hit.text, hit.score) for hit in hits] == [("bb", 1.0)]
        assert [hit[0].text for hit in memory.search(["a", "b"], k=1)] == ["aa", "bb"]
        memory.update(0, embedding="bbb")
        assert [hit.id for hit in memory.recall("b")] == [0, 1]

    def test_two_encoders_do_not_mix_in_a_chat(self) -> None:
        memory = ChatMemory(encoder=letters)
        memory.add("a", ["aa"])
        memory.encoder = others
        with pytest.raises(ChatError, match="scores between two encoders mean nothing"):
            memory.add("a", ["bb"])
        with pytest.raises(ChatError, match="encoder"):
            memory.recall("a")
        memory.add("b", ["bb"])
        assert [hit.chat_id for hit in memory.recall("b")] == ["b"]

    def test_recall_takes_a_text(self) -> None:
        with pytest.raises(ChatError, match="what to recall is a list"):
            ChatMemory().recall(["a"])  # type: ignore[arg-type]


def letters(texts: list[str]) -> np.ndarray:
    return np.array([[text.count("a") + 1e-6, text.count("b")] for text in texts], dtype=float)


def others(texts: list[str]) -> np.ndarray:
    return letters(texts)[:, ::-1].copy()


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


def test_the_kernels_own_memory_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "_default", None)
    first = chat.default()
    assert chat.default() is first
    other = ChatMemory()
    assert chat.set_default(other) is first
    assert chat.default() is other


def test_import_and_an_empty_memory_load_neither_torch_nor_numpy() -> None:
    code = (
        "import json, sys, titan_nb.chat as chat; memory = chat.default(); memory.chats(); memory.stats();"
        "print(json.dumps([name in sys.modules for name in ('torch', 'numpy', 'pandas', 'psutil')]))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == [False] * 4
