"""The twins of the methods that wait."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path

import numpy as np
import pytest

from titan_nb.chat import ChatMemory
from titan_nb.chat.asynchronous import Asynchronous
from titan_nb.errors import ChatError

AXES = np.eye(3)


def test_each_twin_does_what_the_other_does(tmp_path: Path) -> None:
    async def session() -> None:
        memory = ChatMemory(encoder=lambda texts: [[len(text), 1.0] for text in texts])
        assert await memory.add_async("a", AXES, texts=["x", "y", "z"]) == [0, 1, 2]
        assert [hit.text for hit in await memory.search_async(AXES[1], k=1)] == ["y"]
        await memory.add_async("b", ["four"])
        assert [hit.text for hit in await memory.recall_async("four", 1, "b")] == ["four"]
        await memory.update_async(0, text="w")
        assert (await memory.get_async(0)).text == "w"
        assert await memory.verify_async() == ()
        assert await memory.create_index_async() is None
        assert await memory.forget_async("b") == 1
        assert (await memory.compact_async()).dropped_rows >= 0
        await memory.save_async(tmp_path / "saved")
        memory.close()

    asyncio.run(session())
    assert len(ChatMemory.load(tmp_path / "saved", mode="r")) == 3


def test_the_loop_goes_on_meanwhile() -> None:
    go_on = threading.Event()

    def slow(texts: list[str]) -> np.ndarray:
        assert go_on.wait(30)
        return np.ones((len(texts), 2))

    async def session() -> list[int]:
        adding = asyncio.ensure_future(ChatMemory(encoder=slow).add_async("a", ["text"]))
        await asyncio.sleep(0.01)
        assert not adding.done()
        go_on.set()
        return list(await adding)

    assert asyncio.run(session()) == [0]


def test_errors_come_through() -> None:
    with pytest.raises(ChatError, match="chat_id is ''"):
        asyncio.run(ChatMemory().add_async("", AXES))


def test_every_twin_has_its_original() -> None:
    for name, method in vars(Asynchronous).items():
        if name.endswith("_async"):
            assert inspect.iscoroutinefunction(method)
            assert callable(getattr(ChatMemory, name.removesuffix("_async")))
