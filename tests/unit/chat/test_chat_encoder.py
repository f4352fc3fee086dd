"""Storing and searching by text, with an encoder of the user's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from titan_nb.chat import ChatMemory, Encoder
from titan_nb.errors import ChatError


def letters(texts: list[str]) -> np.ndarray:
    """Encode a text by how often it holds a, b and c."""
    return np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=float)


def test_texts_are_encoded_and_kept() -> None:
    memory = ChatMemory(encoder=letters)
    memory.add("a", ["aab", "bbb", "ccb"])
    memory.add("b", ("abc",), texts=["the alphabet"])
    hits = memory.search("a b c", k=4)
    assert [hit.text for hit in hits] == ["the alphabet", "aab", "ccb", "bbb"]
    assert hits[0].score == pytest.approx(1.0, abs=1e-6)


def test_the_encoder_can_be_set_later() -> None:
    memory = ChatMemory()
    with pytest.raises(ChatError, match=r"set memory\.encoder"):
        memory.add("a", ["aab"])
    with pytest.raises(ChatError, match=r"set memory\.encoder"):
        memory.search("aab")
    memory.encoder = letters
    assert memory.add("a", ["aab"]) == [0]


def test_a_single_text_is_refused() -> None:
    with pytest.raises(ChatError, match=r"\[text\]"):
        ChatMemory(encoder=letters).add("a", "aab")


@pytest.mark.parametrize(
    ("mixed", "message"),
    [(["a", [1.0, 2.0]], "row 1 is a list"), ([None, "a"], "row 0 is a NoneType")],
)
def test_texts_and_numbers_do_not_mix(mixed: list[object], message: str) -> None:
    with pytest.raises(ChatError, match=message):
        ChatMemory(encoder=letters).add("a", mixed)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.ones(3, 4), "returned 3 rows for 2 texts"),
        (torch.ones(4), "the encoder's answer cannot be used: row 0"),
        (None, "the encoder's answer cannot be used"),
        ([[1.0, 0.0], [0.0, 0.0]], "row 1 is all zeros"),
    ],
)
def test_a_bad_answer_is_refused(answer: object, message: str) -> None:
    memory = ChatMemory(encoder=lambda _texts: answer)
    with pytest.raises(ChatError, match=message):
        memory.add("a", ["x", "y"])
    assert len(memory) == 0


def test_the_encoders_own_error_reaches_the_user() -> None:
    def broken(_texts: list[str]) -> list[list[float]]:
        raise KeyError("no model")

    with pytest.raises(KeyError, match="no model"):
        ChatMemory(encoder=broken).add("a", ["x"])


def test_the_encoder_may_use_the_memory() -> None:
    memory = ChatMemory()

    def curious(texts: list[str]) -> np.ndarray:
        return letters(texts) if len(memory) < 10 else np.ones((len(texts), 3))

    memory.encoder = curious
    assert memory.add("a", ["a", "b"]) == [0, 1]


def test_any_callable_is_an_encoder() -> None:
    assert isinstance(letters, Encoder)
