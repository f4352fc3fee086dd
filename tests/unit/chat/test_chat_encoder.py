"""Texts in, unit rows out: every encoder that users bring, and every answer that cannot be used."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch

from titan_nb.chat import encoder as module
from titan_nb.chat.encoder import Encoder, as_encoder, encode_texts
from titan_nb.errors import ChatError


def letters(texts: list[str]) -> np.ndarray:
    """Encode a text by how often it holds a, b and c."""
    return np.array([[text.count(letter) for letter in "abc"] for text in texts], dtype=float)


class Model:
    """Has ``encode``, and can be called with something else than texts, as torch modules can."""

    def __init__(self) -> None:
        self.bars: list[object] = []

    def __call__(self, features: dict[str, object]) -> None:
        raise AssertionError(f"called with {features}")

    def encode(self, sentences: list[str], show_progress_bar: bool | None = None) -> np.ndarray:
        self.bars.append(show_progress_bar)
        return letters(sentences)


GOOD: dict[str, Callable[[np.ndarray], object]] = {
    "float64": lambda table: table,
    "float32": lambda table: table.astype("float32"),
    "float16": lambda table: table.astype("float16"),
    "Fortran order": np.asfortranarray,
    "tensor": torch.tensor,
    "bfloat16 tensor": lambda table: torch.tensor(table, dtype=torch.bfloat16),
    "with a gradient": lambda table: torch.tensor(table, requires_grad=True) * 1,
    "negative view": lambda table: torch.complex(torch.zeros(2, 3), -torch.tensor(table).float()).conj().imag,
    "lists": lambda table: table.tolist(),
    "lists of int": lambda table: table.astype(int).tolist(),
    "list of arrays": list,
    "list of tensors": lambda table: list(torch.tensor(table)),
}


@pytest.mark.parametrize("kind", GOOD)
def test_answers_of_every_kind_become_unit_rows(kind: str) -> None:
    rows = encode_texts(lambda texts: GOOD[kind](letters(texts)), ["aaabbbb", "c"])
    assert (type(rows), rows.dtype, rows.flags.c_contiguous) == (np.ndarray, np.float32, True)
    np.testing.assert_allclose(rows, [[0.6, 0.8, 0.0], [0.0, 0.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.ones(3, 4), "has 3 rows for 2 texts"),
        (np.ones((0, 4)), "has 0 rows for 2 texts"),
        (torch.ones(4), "answer cannot be used: row 0"),
        (np.ones((2, 2, 2)), "answer cannot be used: row 0"),
        (np.ones((2, 3), dtype=int), "answer cannot be used: row 0.*dtype int64"),
        ([[1.0, 2.0], [1.0]], "answer cannot be used: row 1 has 1 numbers"),
        ([[1.0, float("nan")]] * 2, "answer cannot be used: row 0 holds NaN"),
        ([[1.0, 0.0], [1.0, float("inf")]], "answer cannot be used: row 1 holds an infinite number"),
        (None, "answer cannot be used"),
        ("ab", "answer cannot be used"),
        ([[1.0, 0.0], [0.0, 0.0]], r"^the text 'y' \(row 1\) has no words that the encoder knows.*all zeros"),
    ],
)
def test_a_bad_answer_is_refused(answer: object, message: str) -> None:
    with pytest.raises(ChatError, match=message):
        encode_texts(lambda _texts: answer, ["x", "y"])


def test_the_text_without_known_words_is_shown_shortened() -> None:
    with pytest.raises(ChatError, match=r"the text 'x{39}…' \(row 1\) has"):
        encode_texts(letters, ["a", "x" * 10_000])


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "an empty list"),
        (["a", [1.0, 2.0]], "row 1 among texts is of type list: pass only texts"),
        ([None, "a"], r"row 0 has no text \(None\): leave such rows out"),
        (["nan", float("nan")], r"row 1 has no text \(nan\): leave such rows out"),
        (["a", "b\ud800"], "row 1 holds half of a surrogate pair at character 1"),
    ],
)
def test_what_is_no_text_is_refused_before_the_encoder_sees_it(texts: list[object], message: str) -> None:
    with pytest.raises(ChatError, match=message):
        encode_texts(pytest.fail, texts)


def test_the_encoders_own_error_reaches_the_user() -> None:
    def broken(_texts: list[str]) -> list[list[float]]:
        raise KeyError("no model")

    with pytest.raises(KeyError, match="no model"):
        encode_texts(broken, ["x"])


def test_an_asynchronous_encoder_is_refused_and_leaves_no_coroutine() -> None:
    async def later(texts: list[str]) -> np.ndarray:
        return letters(texts)

    with pytest.raises(ChatError, match="asynchronous"):
        encode_texts(later, ["a"])  # a coroutine left alone would warn, and a warning is an error here


def test_the_encoder_gets_a_list_of_its_own() -> None:
    texts = ["a", "b"]

    def greedy(given: list[str]) -> np.ndarray:
        rows = letters(given)
        given.clear()
        return rows

    assert encode_texts(greedy, texts).shape == (2, 3)
    assert texts == ["a", "b"]


def test_many_texts_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH_TEXTS", 3)
    monkeypatch.setattr(module, "_BATCH_CHARACTERS", 10)
    parts = []

    def noting(texts: list[str]) -> np.ndarray:
        parts.append(texts)
        return letters(texts)

    texts = ["a", "b", "c", "a" * 6, "b" * 5, "c" * 50, "a"]
    rows = encode_texts(noting, texts)
    assert parts == [["a", "b", "c"], ["a" * 6], ["b" * 5], ["c" * 50], ["a"]]
    np.testing.assert_array_equal(rows, np.eye(3)[[0, 1, 2, 0, 1, 2, 0]])
    with pytest.raises(ChatError, match=r"\(row 5\) has no words"):
        encode_texts(noting, [*texts[:5], "x", "a"])
    with pytest.raises(ChatError, match="row 3 holds NaN"):
        encode_texts(lambda part: letters(part) * [1, 1, 1 if "a" in part else np.nan], ["a", "b", "c", "b"])
    with pytest.raises(ChatError, match="rows of 1 and of 3 numbers"):
        encode_texts(lambda part: np.ones((len(part), len(part))), ["a", "b", "c", "a"])


def test_a_callable_stands_for_itself() -> None:
    assert as_encoder(letters) is letters
    assert isinstance(letters, Encoder)


def test_a_model_is_encoded_with_and_shows_no_bar() -> None:
    model = Model()
    rows = encode_texts(as_encoder(model), ["a", "b"])
    np.testing.assert_array_equal(rows, np.eye(3)[:2])
    assert model.bars == [False]


def test_encode_without_a_bar_gets_none() -> None:
    class Plain:
        def encode(self, texts: list[str]) -> np.ndarray:
            return letters(texts)

    class InC(Plain):
        encode = staticmethod(min)  # no signature can be read

    assert encode_texts(as_encoder(Plain()), ["a"]).shape == (1, 3)
    assert as_encoder(InC())(["b", "a"]) == "a"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("wordlama", "no encoder 'wordlama'; did you mean 'wordllama'"),
        ("", "no encoder ''"),
        (3, "is a int"),
        (Model, "is the class Model"),
        ([letters], "is a list"),
        (b"wordllama", "is a bytes"),
    ],
)
def test_what_is_no_encoder_is_refused(value: object, message: str) -> None:
    with pytest.raises(ChatError, match=message):
        as_encoder(value)


def test_wordllama_is_the_default_and_made_once() -> None:
    found: list[Encoder] = []
    threads = [threading.Thread(target=lambda: found.append(as_encoder(None))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(one) for one in [*found, as_encoder("wordllama")]}) == 1
    assert type(found[0]).__name__ == "WordLlama"
    assert type(as_encoder("minilm")).__name__ == "MiniLM"
