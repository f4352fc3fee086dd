"""Where a memory is kept, and how it moves into a folder."""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from titan_nb.chat import ChatMemory
from titan_nb.chat import location as location_module
from titan_nb.chat.location import described
from titan_nb.errors import ChatError, SettingsError

ROWS = np.random.default_rng(5).standard_normal((30, 8))


def filled() -> ChatMemory:
    memory = ChatMemory(encoder=lambda texts: [[len(text), 1.0] for text in texts])
    memory.add("a", ROWS[:20], [f"text {n}" for n in range(20)], {"n": 1}, times=5)
    memory.add("b", ROWS[20:], ids=range(100, 110))
    memory.add("words", ["one", "three"])
    memory.forget(ids=[3, 4])
    return memory


def contents(memory: ChatMemory) -> list[object]:
    return [
        (item.id, item.chat_id, item.text, item.metadata, item.time, item.embedding.tolist())
        for item in memory.list(embeddings=True)
        if item.embedding is not None
    ]


def test_a_memory_moves_into_a_folder_and_lives_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(location_module, "_COPIED_ROWS", 7)
    memory = filled()
    before, found = contents(memory), memory.search(ROWS[7])
    memory.save(tmp_path / "saved")
    assert contents(memory) == before
    assert memory.search(ROWS[7]) == found
    assert memory.stats().location == str(tmp_path / "saved")
    new = memory.add("a", ROWS[:1])
    assert new[0] > 109
    memory.close()
    with ChatMemory.load(tmp_path / "saved") as again:
        assert contents(again)[:-1] == sorted(before)
        assert again.chats() == ["a", "b", "words"]
        assert again.stats().per_chat["words"].encoder is not None
        again.save(tmp_path / "elsewhere")
        assert len(again) == len(before) + 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["elsewhere", "saved"]


def test_save_refuses_what_is_there(tmp_path: Path) -> None:
    memory = filled()
    (tmp_path / "notes.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ChatError, match="is there already, and not empty"):
            memory.save(taken)
    (tmp_path / "empty").mkdir()
    memory.save(tmp_path / "empty")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    memory.close()


def test_a_save_that_fails_leaves_the_memory_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = filled()
    before = contents(memory)
    monkeypatch.setattr(location_module, "_copy", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        memory.save(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []
    assert contents(memory) == before
    assert memory.stats().location == "memory"


def test_load_wants_a_memory(tmp_path: Path) -> None:
    with pytest.raises(ChatError, match="there is no chat memory in"):
        ChatMemory.load(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [5, "", lambda texts: texts, b""])
def test_what_is_no_location(wrong: object) -> None:
    with pytest.raises(ChatError, match="location is a"):
        ChatMemory(wrong)  # type: ignore[arg-type]


def test_modes() -> None:
    with pytest.raises(ChatError, match="mode is 'x'"):
        ChatMemory(mode="x")
    with pytest.raises(ChatError, match="nothing to read"):
        ChatMemory(mode="r")


def test_servers_have_no_device_here() -> None:
    with pytest.raises(SettingsError, match="no device and no budgets"):
        ChatMemory("postgresql://one/db", device="cpu")
    with pytest.raises(ChatError, match="each starts with postgresql://"):
        ChatMemory(["postgresql://one/db", "folder"])


def test_passwords_are_not_shown() -> None:
    servers = ["postgresql://me:secret@one:5432/db", "postgres://two/db"]
    assert described(servers) == "postgresql://one:5432/db, postgresql://two/db"
    assert described("postgresql:///db?host=/tmp/x&password=secret") == "postgresql:///db"
    assert described(None) == "memory"


def test_a_memory_on_two_servers(urls: list[str], tmp_path: Path) -> None:
    with ChatMemory(urls) as memory, filled() as local:
        for chat_id in ("a", "b"):
            for item in local.list(chat_id, embeddings=True):
                memory.add(chat_id, [item.embedding], [item.text], times=item.time, ids=[item.id])
        for query in ROWS[::5]:
            on_servers, here = memory.search(query, k=7), local.search(query, k=7)
            assert on_servers.certified
            assert [hit.id for hit in on_servers] == [hit.id for hit in here]
            # The rows were made unit rows once more on their way.
            assert [hit.score for hit in on_servers] == pytest.approx([hit.score for hit in here], abs=1e-6)
        assert "s3cret" not in repr(memory)
        assert repr(memory).startswith("<ChatMemory: 28 items in 2 chats, in postgresql://")
        memory.save(tmp_path / "saved")
        assert memory.stats().location == str(tmp_path / "saved")
        assert len(memory) == 28


def test_ids_are_not_given_again_after_a_move(tmp_path: Path) -> None:
    memory = ChatMemory()
    memory.add("a", ROWS[:10])
    memory.forget(ids=[8, 9])
    memory.save(tmp_path / "saved")
    assert memory.add("a", ROWS[:1]) == [10]
    memory.close()


def test_what_a_killed_save_left_stays_out(tmp_path: Path) -> None:
    with ChatMemory(tmp_path / f"saved.partial-{os.getpid()}") as left:
        left.add("other", ROWS[:3], ids=[500, 501, 502])
    memory = filled()
    before = contents(memory)
    memory.save(tmp_path / "saved")
    assert contents(memory) == before
    memory.close()


def test_something_that_comes_there_meanwhile_is_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = location_module._copy

    def slow(source: Any, target: Any) -> None:
        copy(source, target)
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved" / "notes.txt").write_text("mine")

    memory = filled()
    monkeypatch.setattr(location_module, "_copy", slow)
    with pytest.raises(ChatError, match="is there already, and not empty"):
        memory.save(tmp_path / "saved")
    assert [one.name for one in tmp_path.rglob("*")] == ["saved", "notes.txt"]
    assert memory.stats().location == "memory"
    memory.close()


def test_what_still_reads_a_memory_that_moves_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("titan_nb.chat.local._PAGE_ITEMS", 5)
    memory = filled()
    left = weakref.ref(memory._store)
    items, expected = memory.list(), [item.id for item in memory.list()]
    assert next(items).id == expected[0]
    memory.save(tmp_path / "saved")
    assert [item.id for item in items] == expected[1:]
    del items
    assert left() is None, "nothing else keeps it"
    memory.close()
