"""Texts and metadata: one per row, kept as they were given, or refused."""

from __future__ import annotations

import pytest
import torch

from titan_nb.chat import ChatMemory
from titan_nb.errors import ChatError

AXES = torch.eye(3)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a"], r"1 texts for 3 rows \(row 1 has none\)"),
        (["a", "b", "c", "d"], r"4 texts for 3 rows \(row 3 does not exist\)"),
        ("abc", "texts is a str"),
        (["a", 2, "c"], "the text of row 1 is a int"),
    ],
)
def test_texts(texts: object, message: str) -> None:
    memory = ChatMemory()
    with pytest.raises(ChatError, match=message):
        memory.add("a", AXES, texts=texts)
    assert len(memory) == 0


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ([{}], r"1 metadata for 3 rows \(row 1 has none\)"),
        ("abc", "metadata is a str"),
        ([{}, [], {}], "the metadata of row 1 is a list"),
        ([{}, {}, {"x": {1, 2}}], "the metadata of row 2 cannot be written as JSON"),
        ([{"x": float("nan")}, {}, {}], "the metadata of row 0 cannot be written as JSON"),
        ({"x": torch.ones(1)}, "row 0 and every other"),
    ],
)
def test_metadata(metadata: object, message: str) -> None:
    memory = ChatMemory()
    with pytest.raises(ChatError, match=message):
        memory.add("a", AXES, metadata=metadata)
    assert len(memory) == 0


def test_metadata_in_a_circle() -> None:
    circle: dict[str, object] = {}
    circle["self"] = circle
    with pytest.raises(ChatError, match="cannot be written as JSON"):
        ChatMemory().add("a", AXES, metadata=circle)


def test_one_dict_goes_to_every_row_and_is_copied() -> None:
    memory = ChatMemory()
    given = {"cell": {"number": 3}, "shape": (3, 3)}
    memory.add("a", AXES, metadata=given)
    given["cell"]["number"] = 4  # type: ignore[index]
    first = memory.search(AXES[0])[0]
    assert first.metadata == {"cell": {"number": 3}, "shape": [3, 3]}
    first.metadata["cell"] = None
    assert [hit.metadata["cell"] for hit in memory.search(AXES[0])] == [{"number": 3}] * 3  # type: ignore[index]
