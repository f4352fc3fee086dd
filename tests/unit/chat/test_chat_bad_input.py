"""What is no table of embeddings is refused by name and leaves no trace; what is odd but right is kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from titan_nb.chat import ChatMemory
from titan_nb.errors import ChatError

TINY = float(np.finfo(np.float32).tiny)

WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "0-d": (lambda: np.float64(3.0) * np.ones(()), "shape"),
    "1-d": (lambda: np.ones(3), r"pass x\[None, :\]"),
    "3-d": (lambda: torch.ones(2, 2, 3), "reshape"),
    "no columns": (lambda: np.ones((2, 0)), "empty"),
    "an empty list": (list, "empty list"),
    "ragged": (lambda: [[1.0, 2.0, 3.0], [1.0, 2.0]], "row 1 has 2 numbers, row 0 has 3"),
    "mixed dimensions": (lambda: [np.ones(3), torch.ones(4)], "row 1 has 4 numbers"),
    "NaN": (lambda: np.array([[1, 2, 3], [1, np.nan, 0]]), "row 1 holds NaN"),
    "infinity": (lambda: torch.tensor([[1.0, 2.0, float("-inf")]]), "row 0 holds an infinite number"),
    "a zero row": (lambda: [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]], "row 1 is all zeros"),
    "a zero row of minus zeros": (lambda: -np.zeros((1, 3)), "row 0 is all zeros"),
    "denormals": (lambda: np.full((1, 3), TINY / 4, dtype=np.float32), "row 0 is as good as zero"),
    "integers": (lambda: np.ones((2, 3), dtype=np.int64), "int64"),
    "integers of torch": (lambda: torch.ones(2, 3, dtype=torch.int32), "int32"),
    "bool": (lambda: np.ones((2, 3), dtype=bool), "bool"),
    "bool in a list": (lambda: [[True, 1.0, 2.0]], "bool"),
    "complex": (lambda: torch.ones(2, 3, dtype=torch.complex64), "complex64"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "to_dense"),
    "on meta": (lambda: torch.ones(2, 3, device="meta"), "meta"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(2, 3), 0.1, 0, torch.qint8), "dequantize"),
    "long double": (lambda: np.ones((2, 3), dtype=np.longdouble), "dtype"),
    "objects": (lambda: np.array([[object()] * 3]), "dtype object"),
    "masked": (lambda: np.ma.masked_greater(np.ones((2, 3)), 0.5), "masked"),
    "a text": (lambda: "text", "a single text"),
    "texts and numbers": (lambda: ["text", [1.0, 2.0, 3.0]], "row 1 among texts is of type list"),
    "a dict": (lambda: {"a": 1}, "dict"),
    "nothing": (lambda: None, "NoneType"),
}

RIGHT: dict[str, Callable[[], Any]] = {
    "huge norms": lambda: np.eye(3) * 1e300,
    "tiny norms": lambda: np.eye(3) * 1e-300,
    "float16": lambda: torch.eye(3, dtype=torch.float16) * 60_000,
    "bfloat16": lambda: torch.eye(3, dtype=torch.bfloat16) * 2,
    "with gradients": lambda: (torch.eye(3) * 2).requires_grad_(),
    "not contiguous": lambda: torch.eye(6)[::2, ::2],
    "columns first": lambda: np.asfortranarray(np.eye(3)),
    "backwards": lambda: np.eye(3)[::-1],
    "foreign byte order": lambda: np.eye(3).astype(">f4"),
    "read only": lambda: np.broadcast_to(np.eye(3), (3, 3)),
    "lists of tensors": lambda: [torch.eye(3)[0], torch.eye(3).double()[1], np.eye(3)[2]],
}


@pytest.fixture
def memory() -> Iterator[ChatMemory]:
    with ChatMemory(encoder=lambda texts: np.ones((len(texts), 3))) as made:
        made.add("a", np.eye(3))
        yield made


@pytest.mark.filterwarnings("ignore:.*quantiz.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_table(memory: ChatMemory, name: str) -> None:
    make, message = WRONG[name]
    with pytest.raises(ChatError, match=message):
        memory.add("a", make())
    assert len(memory) == 3


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_a_table(name: str) -> None:
    memory = ChatMemory()
    assert memory.add("a", RIGHT[name]()) == [0, 1, 2]
    lengths = [np.linalg.norm(item.embedding.astype(float)) for item in memory.list(embeddings=True)]  # type: ignore[union-attr]
    assert lengths == pytest.approx([1.0] * 3, abs=1e-6)
    expected = [2, 1, 0] if name == "backwards" else [0, 1, 2]
    assert [memory.search(row, k=1)[0].id for row in np.eye(3)] == expected


@pytest.mark.parametrize("query", [[0.0, 0.0, 0.0], [1.0, float("nan"), 0.0], np.ones((2, 2, 2)), 3.0, None])
def test_what_is_no_query(memory: ChatMemory, query: object) -> None:
    with pytest.raises(ChatError, match="the query"):
        memory.search(query)


def test_more_than_there_are(memory: ChatMemory) -> None:
    assert len(memory.search(np.ones(3), k=10**9)) == 3
    assert [len(hits) for hits in memory.search(np.eye(3), k=4)] == [3, 3, 3]


def test_texts_of_any_script_and_size_come_back_as_they_were(tmp_path: Path) -> None:
    texts = ["", "\x00\x01", "e\u0301 é", "🙂🏽\u200d", "שלום \u202e", "x" * 10_000_000, "\r\n"]
    with ChatMemory(tmp_path / "memory") as memory:
        memory.add("ünïcode 🙂", np.eye(7), texts, [{"ключ": text[:9]} for text in texts])
    with ChatMemory.load(tmp_path / "memory", mode="r") as memory:
        items = list(memory.list("ünïcode 🙂"))
        assert [item.text for item in items] == texts
        assert [item.metadata for item in items] == [{"ключ": text[:9]} for text in texts]
        assert [item.id for item in memory.list(where={"ключ": "🙂🏽\u200d"})] == [3]


@pytest.mark.parametrize("metadata", [{"x": {1}}, {"x": float("nan")}, {"x": b"1"}, [1, 2, 3], "text", 5])
def test_metadata_that_json_cannot_hold(memory: ChatMemory, metadata: object) -> None:
    with pytest.raises(ChatError, match="metadata"):
        memory.add("a", np.eye(3), metadata=metadata)
    assert len(memory) == 3


def test_metadata_is_what_json_makes_of_it(memory: ChatMemory) -> None:
    given = {"deep": {"list": [1, [2.5, None]], "big": 2**80}, "t": True, "": "empty", 'quote"d': "\ud800"}
    (number,) = memory.add("a", np.ones((1, 3)), metadata=given)
    assert memory.get(number).metadata == json.loads(json.dumps(given))


def test_a_batch_with_one_bad_row_leaves_no_trace(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).standard_normal((1000, 8))
    with ChatMemory(tmp_path / "memory") as memory:
        memory.add("a", rows)
        rows[777, 3] = np.nan
        with pytest.raises(ChatError, match="row 777 holds NaN"):
            memory.add("new", rows)
        with pytest.raises(ChatError, match="the text of row 5"):
            memory.add("a", np.eye(8), texts=["x"] * 5 + [5] * 3)
        with pytest.raises(ChatError, match="the time of row 7"):
            memory.add("a", np.eye(8), times=[0] * 7 + ["now"])
        assert (memory.chats(), len(memory)) == (["a"], 1000)
        assert memory.add("a", np.eye(8)[:1]) == [1000]


@pytest.mark.slow
def test_a_million_adds_of_one_row() -> None:
    memory, source = ChatMemory(), np.random.default_rng(3)
    rows = source.standard_normal((1000, 16)).astype(np.float32)
    for number in range(1_000_000):
        assert memory.add("a", rows[number % 1000 : number % 1000 + 1]) == [number]
    assert len(memory) == 1_000_000
    assert [hit.id for hit in memory.search(rows[5], k=3)] == [5, 1005, 2005]


def test_many_adds_of_one_row() -> None:
    """The same, reduced to 20,000 rows."""
    memory, source = ChatMemory(), np.random.default_rng(3)
    rows = source.standard_normal((1000, 16)).astype(np.float32)
    for number in range(20_000):
        assert memory.add("a", rows[number % 1000 : number % 1000 + 1]) == [number]
    assert [hit.id for hit in memory.search(rows[5], k=3)] == [5, 1005, 2005]
