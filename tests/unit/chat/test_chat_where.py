"""Conditions on metadata."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from titan_nb.chat.where import OPERATORS, Condition, fulfils, read_where, sqlite_clause
from titan_nb.errors import ChatError

KEYS = st.sampled_from(["a", "b", "a.b", 'q"uote', "back\\slash", "ключ", "", "sp ace", "nul\0", "sl/ash"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(
        [0, 1, 1.0, -0.0, 2**53, 2**53 + 1, 2**63, 2**63 + 1, float(2**63), 10**23, 1e23, 5e-324]
    ),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "a", "A", "user", "ä", "a\0b", 'say "hi"', "C:\\", "😀", "1", "\ud800", "a/b"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.dictionaries(KEYS, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=6,
)
METADATA = st.none() | st.dictionaries(KEYS, VALUES, max_size=4)
PATHS = st.lists(KEYS, min_size=1, max_size=3).map(tuple)


def _conditions() -> st.SearchStrategy[Condition]:
    ordered = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from(["a", "user", 3, 2**63])
    return st.one_of(
        st.builds(Condition, PATHS, st.sampled_from(["$eq", "$ne"]), SCALARS),
        st.builds(Condition, PATHS, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
        st.builds(Condition, PATHS, st.just("$in"), st.lists(SCALARS, max_size=3).map(tuple)),
        st.builds(Condition, PATHS, st.just("$exists"), st.booleans()),
    )


def _fulfils(metadata: dict[str, Any] | None, where: dict[Any, Any]) -> bool:
    return all(fulfils(metadata, condition) for condition in read_where(where))


@pytest.fixture(scope="module")
def items() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE items (metadata TEXT)")
    return connection


@given(metadata=METADATA, conditions=st.lists(_conditions(), max_size=3).map(tuple), escaped=st.booleans())
@settings(max_examples=400, deadline=None)
def test_sqlite_leaves_out_nothing_that_fulfils_the_conditions(
    items: sqlite3.Connection,
    metadata: dict[str, Any] | None,
    conditions: tuple[Condition, ...],
    escaped: bool,
) -> None:
    text = None if metadata is None else json.dumps(metadata, ensure_ascii=escaped)
    if text is not None and "\ud800" in text:
        text = json.dumps(metadata)
    clause, parameters = sqlite_clause(conditions)
    items.execute("DELETE FROM items")
    items.execute("INSERT INTO items VALUES (?)", (text,))
    passed = items.execute(f"SELECT metadata FROM items WHERE 1{clause}", parameters).fetchone() is not None
    assert passed or not all(fulfils(metadata, condition) for condition in conditions)


@pytest.mark.parametrize(
    ("where", "metadata"),
    [
        ({"role": "user"}, {"role": "bot"}),
        ({"role": "user"}, None),
        ({"author.name": {"$gt": 1}}, {"author": {}}),
        ({"cell": {"$exists": True}}, {"role": "user"}),
        ({"cell": {"$in": [1]}}, {"role": "user"}),
    ],
)
def test_sqlite_leaves_out_what_lacks_the_key_or_the_text(
    items: sqlite3.Connection, where: dict[str, Any], metadata: dict[str, Any] | None
) -> None:
    clause, parameters = sqlite_clause(read_where(where))
    items.execute("DELETE FROM items")
    items.execute("INSERT INTO items VALUES (?)", (None if metadata is None else json.dumps(metadata),))
    assert items.execute(f"SELECT 1 FROM items WHERE 1{clause}", parameters).fetchone() is None


@pytest.mark.parametrize(
    ("where", "metadata", "expected"),
    [
        ({"role": "user"}, {"role": "user"}, True),
        ({"role": "user"}, {"role": "User"}, False),
        ({"n": 1}, {"n": 1.0}, True),
        ({"n": 1}, {"n": True}, False),
        ({"n": True}, {"n": 1}, False),
        ({"n": "1"}, {"n": 1}, False),
        ({"n": None}, {"n": None}, True),
        ({"n": None}, {}, False),
        ({"n": None}, None, False),
        ({"n": 2**53 + 1}, {"n": float(2**53)}, False),
        ({"n": [1]}, {"n": 1}, None),
        ({"n": 1}, {"n": [1]}, False),
        ({"n": {"$ne": 1}}, {"n": [1]}, True),
        ({"n": {"$ne": 1}}, {"n": 1.0}, False),
        ({"n": {"$ne": 1}}, None, True),
        ({"n": {"$gt": 1}}, {"n": 1}, False),
        ({"n": {"$gt": 1}}, {"n": 1.5}, True),
        ({"n": {"$gte": 1}}, {"n": 1}, True),
        ({"n": {"$lt": 1}}, {"n": 1}, False),
        ({"n": {"$lt": 1}}, {"n": 0}, True),
        ({"n": {"$lte": 1}}, {"n": 1}, True),
        ({"n": {"$lte": 1}}, {"n": 2}, False),
        ({"n": {"$lte": 1}}, {"n": False}, False),
        ({"n": {"$gt": "a"}}, {"n": "b"}, True),
        ({"n": {"$gt": "a"}}, {"n": 3}, False),
        ({"n": {"$gt": 1}}, {}, False),
        ({"n": {"$gte": 3, "$lt": 5}}, {"n": 4}, True),
        ({"n": {"$gte": 3, "$lt": 5}}, {"n": 5}, False),
        ({"n": {"$in": [1, "x"]}}, {"n": "x"}, True),
        ({"n": {"$in": [True]}}, {"n": 1}, False),
        ({"n": {"$in": []}}, {"n": 1}, False),
        ({"n": {"$exists": True}}, {"n": None}, True),
        ({"n": {"$exists": False}}, {"n": None}, False),
        ({"n": {"$exists": False}}, None, True),
        ({"a.b": 1}, {"a": {"b": 1}}, True),
        ({"a.b": 1}, {"a.b": 1}, False),
        ({("a.b",): 1}, {"a.b": 1}, True),
        ({"a.b": 1}, {"a": 1}, False),
        ({"a.b": 1}, {"a": [{"b": 1}]}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"n": np.int64(3)}, {"n": 3}, True),
        ({"n": np.float32(0.5)}, {"n": 0.5}, True),
        ({}, None, True),
    ],
)
def test_meaning(where: dict[Any, Any], metadata: dict[str, Any] | None, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(ChatError):
            read_where(where)
    else:
        assert _fulfils(metadata, where) is expected


def test_nothing_asked_is_no_condition() -> None:
    assert read_where(None) == ()
    assert sqlite_clause(()) == ("", [])


def test_values_are_plain_python() -> None:
    (condition,) = read_where({"n": {"$in": [np.int64(3), np.float64(0.5), "x"]}})
    assert condition == Condition(("n",), "$in", (3, 0.5, "x"))
    assert [type(value) for value in condition.value] == [int, float, str]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("role", "where is a str: give a dict"),
        ({3: 1}, "where has the key 3: give a text"),
        ({(): 1}, r"where has the key \(\)"),
        ({("a", 1): 1}, "where has the key"),
        ({"n": {"$gte ": 1}}, r"no operator '\$gte ': did you mean '\$gte'\?"),
        ({"n": {"gt": 1}}, r"did you mean '\$gt'\?"),
        ({"n": {"name": 1}}, r"no operator 'name': for a nested key write a dot; there are \$eq"),
        ({"n": {3: 1}}, "no operator 3"),
        ({"n": {}}, "is an empty dict"),
        ({"n": [1]}, r"where\['n'\] is a list: give a text, a number"),
        ({"n": {"$eq": {"a": 1}}}, r"where\['n'\]\['\$eq'\] is a dict"),
        ({"n": float("nan")}, "is nan, which JSON cannot hold"),
        ({"n": {"$lt": float("inf")}}, "is inf, which JSON cannot hold"),
        ({"n": {"$lt": None}}, "is None, which has no order"),
        ({"n": {"$gt": True}}, "is True, which has no order"),
        ({"n": {"$exists": 1}}, "is 1: give True or False"),
        ({"n": {"$in": "abc"}}, "is a str: give a list of values"),
        ({"n": {"$in": [[1]]}}, "is a list: give a text"),
    ],
)
def test_what_cannot_be_read_is_named(where: Any, message: str) -> None:
    with pytest.raises(ChatError, match=message):
        read_where(where)


def test_every_operator_is_known_to_the_reader() -> None:
    for operator in OPERATORS:
        value: Any = {"$in": [1], "$exists": True}.get(operator, 1)
        assert read_where({"n": {operator: value}}) == (
            Condition(("n",), operator, (1,) if operator == "$in" else value),
        )


def test_more_conditions_than_sqlite_nests() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE items (metadata TEXT)")
    many = {f"key {number}": "value" for number in range(2000)}
    connection.executemany("INSERT INTO items VALUES (?)", [(json.dumps(many),), ("{}",)])
    clause, parameters = sqlite_clause(read_where(many))
    found = connection.execute(f"SELECT metadata FROM items WHERE 1{clause}", parameters)
    assert [len(json.loads(metadata)) for (metadata,) in found] == [2000]
    connection.close()
