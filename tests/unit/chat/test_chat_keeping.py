"""Where a memory is kept, what that takes, and what is done about damage."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import torch

from titan_nb.chat import ChatMemory

AXES = torch.eye(3)


class TestStats:
    def test_what_is_stored(self) -> None:
        memory = ChatMemory()
        empty = memory.stats()
        assert (empty.chats, empty.rows, empty.bytes, empty.location) == (0, 0, 0, "memory")
        memory.add("a", AXES)
        memory.add("b", torch.ones(2, 5))
        stats = memory.stats()
        assert (stats.chats, stats.rows) == (2, 5)
        assert [(name, c.rows, c.dimension) for name, c in stats.per_chat.items()] == [
            ("a", 3, 3),
            ("b", 2, 5),
        ]
        assert stats.bytes == sum(chat.bytes for chat in stats.per_chat.values()) >= 5 * 12
        assert stats.tiers["ram"] >= stats.bytes
        age = datetime.now(timezone.utc) - stats.per_chat["b"].last_added
        assert timedelta(0) <= age < timedelta(minutes=1)

    def test_records_are_frozen(self) -> None:
        memory = ChatMemory()
        memory.add("a", AXES)
        with pytest.raises(AttributeError):
            memory.search(AXES[0])[0].score = 0.0
        with pytest.raises(FrozenInstanceError):
            memory.stats().rows = 0  # type: ignore[misc]

    def test_repr(self) -> None:
        memory = ChatMemory()
        assert repr(memory) == "<ChatMemory: empty, in memory>"
        memory.add("a", AXES[:1])
        assert repr(memory) == "<ChatMemory: 1 item in 1 chat, in memory>"
        memory.add("b", AXES)
        assert repr(memory) == "<ChatMemory: 4 items in 2 chats, in memory>"


class TestDamage:
    def test_a_flipped_bit_is_found_reported_and_not_laundered(self, tmp_path: Path) -> None:
        rows = np.random.default_rng(2).standard_normal((300, 16))
        with ChatMemory(tmp_path / "memory") as memory:
            for part in range(3):
                memory.add("a", rows[100 * part : 100 * part + 100], [f"text {n}" for n in range(100)])
            memory.forget(ids=[5])
            assert memory.verify() == ()
        (file,) = (tmp_path / "memory" / "vectors").iterdir()
        flip(file, file.stat().st_size - 150 * 16 * 4)
        with ChatMemory(tmp_path / "memory") as memory:
            assert memory.compact().dropped_rows == 101
            (lost,) = memory.recovered
            assert (lost.chat_id, lost.ids) == ("a", tuple(range(100, 200)))
            assert [item.id for item in memory.list()] == [*range(5), *range(6, 100), *range(200, 300)]
            assert memory.search(rows[250], k=1)[0].id == 250
            assert memory.verify() == ()

    def test_a_reader_is_told(self, tmp_path: Path) -> None:
        with ChatMemory(tmp_path / "memory") as memory:
            memory.add("a", np.eye(16))
        (file,) = (tmp_path / "memory" / "vectors").iterdir()
        flip(file, file.stat().st_size - 1)
        with ChatMemory(tmp_path / "memory", mode="r") as memory:
            assert memory.verify()[0].ids == tuple(range(16))
            assert len(memory) == 16
        with pytest.warns(UserWarning, match="16 items"):
            memory = ChatMemory(tmp_path / "memory")
        assert memory.recovered[0].ids == tuple(range(16))
        assert len(memory) == 0
        memory.close()

    def test_what_opening_finds_is_a_warning(self, tmp_path: Path) -> None:
        with ChatMemory(tmp_path / "memory") as memory:
            memory.add("a", np.eye(16)[:10])
            memory.add("a", np.eye(16)[10:])
        (file,) = (tmp_path / "memory" / "vectors").iterdir()
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size - 1)
        with pytest.warns(UserWarning, match="6 items of chat 'a' lost"):
            memory = ChatMemory(tmp_path / "memory")
        assert len(memory.recovered[0].ids) == 6
        assert len(memory) == 10
        memory.close()

    @pytest.mark.filterwarnings("error")
    def test_where_warnings_are_errors_nothing_stays_locked(self, tmp_path: Path) -> None:
        with ChatMemory(tmp_path / "memory") as memory:
            memory.add("a", np.eye(16))
        (file,) = (tmp_path / "memory" / "vectors").iterdir()
        with file.open("r+b") as opened:
            opened.truncate(file.stat().st_size - 1)
        with pytest.raises(UserWarning, match="16 items of chat 'a' lost") as raised:
            ChatMemory(tmp_path / "memory")
        with ChatMemory(tmp_path / "memory") as memory:  # while the traceback keeps the first one alive
            assert len(memory) == 0
        assert raised.value


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 4
    file.write_bytes(data)
