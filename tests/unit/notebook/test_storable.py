"""What of a value is stored, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from titan_nb.errors import ChatError
from titan_nb.notebook.storable import kind, storable

FRAME = pd.DataFrame({"question": ["a", "b"], "answer": [None, "d"], "page": [1, 2]})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", ["text"]),
        ("", [""]),
        (["a", "b"], ["a", "b"]),
        (("a", "b"), ("a", "b")),
        ([[1.0, 2.0]], [[1.0, 2.0]]),
        (pd.Series(["a", "b"]), ["a", "b"]),
        (pd.Series(["a", "b"], dtype="string"), ["a", "b"]),
        (pd.Series(["a", "b"], dtype="category"), ["a", "b"]),
        (pd.Series([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
        (pd.DataFrame({"only": ["a", "b"]}), ["a", "b"]),
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array(["a", "b"], dtype=object), ["a", "b"]),
    ],
    ids=repr,
)
def test_texts_and_lists(value: object, expected: object) -> None:
    assert storable(value) == expected


@pytest.mark.parametrize("library", [torch, np])
def test_tables_are_handed_on_as_they_are_and_a_vector_is_one_row(library: Any) -> None:
    table = library.ones((2, 3))
    assert storable(table) is table
    assert storable(library.ones(3)).shape == (1, 3)


def test_a_table_of_numbers_needs_no_column() -> None:
    numbers = pd.DataFrame({"x": [0.5, 1.0], "y": [2.0, 3.0]})
    assert storable(numbers) is numbers


@pytest.mark.parametrize(
    "value",
    [
        None,
        42,
        1.5,
        {},
        [],
        (),
        [1.0, 2.0],
        (2, 3),
        {"a"},
        torch.tensor(1.0),
        torch.ones(2, 2, 2),
        np.array([["a"]]),
        object(),
    ],
    ids=repr,
)
def test_nothing_else_is(value: object) -> None:
    assert storable(value) is None


def test_a_column_is_chosen_by_name() -> None:
    assert storable(FRAME, "question") == ["a", "b"]
    assert storable(pd.DataFrame({0: ["a"], 1: ["b"]}), "1") == ["b"]


@pytest.mark.parametrize(
    ("value", "column", "message"),
    [
        (FRAME, None, "say which column of the DataFrame, --column NAME: texts are in 'question', 'answer'"),
        (FRAME, "nope", "has no column 'nope'; it has: 'question', 'answer', 'page'"),
        (pd.DataFrame([["a", "b"]], columns=["x", "x"]), "x", "more than one column 'x'"),
        (pd.DataFrame([["a"] * 12]), None, "'7' and 4 more"),
        (pd.DataFrame(), "x", "no column 'x'; it has: none"),
        (["a"], "x", "--column is for a DataFrame, and the last value is of type list"),
    ],
)
def test_a_column_that_is_missing_is_said(value: object, column: str | None, message: str) -> None:
    with pytest.raises(ChatError, match=message):
        storable(value, column)


def test_an_object_is_not_asked_anything() -> None:
    class Hostile:
        def __getattribute__(self, name: str) -> object:
            raise AssertionError(name)

    assert storable(Hostile()) is None
    assert kind(Hostile()) == "the last value is of type Hostile"


def test_the_words_for_a_value() -> None:
    assert "semicolon" in kind(None)
    assert kind(torch.ones(1, 2, 3)) == "the last value is of type Tensor with 3 dimensions"
    assert kind(np.ones(1)) == "the last value is of type ndarray with 1 dimension"
    assert kind({}) == "the last value is of type dict"
