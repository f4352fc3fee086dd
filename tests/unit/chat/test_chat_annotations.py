"""What users say beside the numbers: kept as it was given, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from titan_nb.chat import ChatMemory
from titan_nb.chat.annotations import read_chat_id, read_fields, read_ids, read_k, read_mode, read_texts
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


class TestIds:
    def test_numbers_of_any_kind(self) -> None:
        assert read_ids(None, 3) is None
        assert read_ids([3, np.int64(1), 2**63 - 1], 3) == [3, 1, 2**63 - 1]
        assert read_ids(range(2), None) == [0, 1]

    @pytest.mark.parametrize("wrong", [-1, 2**63, True, 1.0, "1", None])
    def test_what_is_no_id(self, wrong: object) -> None:
        with pytest.raises(ChatError, match=r"ids\[1\] is .*from 0 to 2\^63 - 1"):
            read_ids([0, wrong], None)

    @pytest.mark.parametrize("wrong", [5, "12", b"12"])
    def test_what_is_no_list(self, wrong: object) -> None:
        with pytest.raises(ChatError, match="give a list of whole numbers"):
            read_ids(wrong, None)

    def test_one_for_each_row(self) -> None:
        with pytest.raises(ChatError, match="2 ids for 3 rows"):
            read_ids([1, 2], 3)

    def test_none_twice(self) -> None:
        with pytest.raises(ChatError, match="id 7 is given twice"):
            read_ids([1, 7, 2, 7], 4)


@pytest.mark.parametrize("k", [0, -1, True, 1.0, "5", None])
def test_k_must_be_a_whole_number_of_at_least_one(k: object) -> None:
    with pytest.raises(ChatError, match="k is"):
        read_k(k)


def test_modes() -> None:
    assert [read_mode("exact"), read_mode("fast")] == ["exact", "fast"]
    with pytest.raises(ChatError, match="mode is 'quick': give 'exact' or 'fast'"):
        read_mode("quick")


def test_an_update_changes_something() -> None:
    assert read_fields({"text"}) == {"text"}
    with pytest.raises(ChatError, match="say what to change"):
        read_fields(set())


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(ChatError, match="the text of row 1 holds half of a surrogate pair at character 2"):
        read_texts(["a", "ab\ud800"], 2)
    with pytest.raises(ChatError, match="chat_id holds half"):
        read_chat_id("\udfff")
    assert read_texts(["\x00", "🙂"], 2) == ["\x00", "🙂"]
