"""The conditions on a real server, against `fulfils`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fakes.postgres import PostgresServer
from titan_nb.chat.postgres.where import as_facts, is_text, jsonb_clause, selected
from titan_nb.chat.store import Selection
from titan_nb.chat.where import Condition, fulfils

KEYS = st.sampled_from(["a", "b", "0", "ä", "", "\0", "\ud800"])
LARGE = [2**53, 2**53 + 1, -(2**53) - 1, 10**23, 1e23, 99999999999999991611392, 10**40, 1e300, 5e-324]
NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(LARGE),
)
TEXTS = st.text(st.characters(codec=None), max_size=4) | st.sampled_from(
    ["", "a", "Z", "é", "\0", "\uffff", "🙂"]
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
METADATA = st.none() | st.dictionaries(KEYS, VALUES, max_size=3)
PATHS = st.lists(KEYS, min_size=1, max_size=2).map(tuple)
CONDITIONS = st.one_of(
    st.builds(Condition, PATHS, st.sampled_from(["$eq", "$ne"]), SCALARS),
    st.builds(Condition, PATHS, st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), NUMBERS | TEXTS),
    st.builds(Condition, PATHS, st.just("$in"), st.lists(SCALARS, max_size=3).map(tuple)),
    st.builds(Condition, PATHS, st.just("$exists"), st.booleans()),
)


@pytest.fixture(scope="module")
def server(postgres_servers: tuple[PostgresServer, PostgresServer]) -> Iterator[psycopg.Connection[Any]]:
    first, _ = postgres_servers
    with psycopg.connect(first.url("chat", first.new_schema()), autocommit=True) as connection:
        yield connection


def passes(
    server: psycopg.Connection[Any], metadata: list[str | None], where: tuple[Condition, ...]
) -> list[bool]:
    clause, parameters = selected(Selection(where=where))
    rows = server.execute(
        f"SELECT {clause} FROM unnest(%s::text[], %s::text[]) "
        "WITH ORDINALITY AS item (metadata, given, place), "
        "LATERAL (SELECT given::jsonb AS facts) AS read ORDER BY place",
        [*parameters, metadata, [as_facts(one) for one in metadata]],
    )
    return [passed is True for (passed,) in rows]


def ordinary(value: Any) -> bool:
    """Say whether jsonb has no trouble with a value."""
    if isinstance(value, dict):
        return all(is_text(key) and ordinary(one) for key, one in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(ordinary, value))
    if isinstance(value, str):
        return is_text(value)
    return isinstance(value, bool) or value is None or abs(value) <= 2**53


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(METADATA, min_size=1, max_size=8), CONDITIONS)
@example([{"a": 10**23}, {"a": 1e23}, {"a": 1.0}], Condition(("a",), "$eq", 99999999999999991611392))
@example([{"a": [1]}, {"a": {"0": 1}}, {"a": 1}], Condition(("a", "0"), "$eq", 1))
@example([{"a": True}, {"a": 1}, {"a": "1"}, {"a": None}, {}], Condition(("a",), "$eq", 1))
@example([{"a": "é"}, {"a": "z"}, {"a": "Z"}], Condition(("a",), "$gt", "a"))
@example([{"a": "\0"}, {"a": ""}, None], Condition(("a",), "$ne", "\0"))
def test_the_clause_agrees_with_fulfils(
    server: psycopg.Connection[Any], metadata: list[dict[str, Any] | None], condition: Condition
) -> None:
    stored = [None if one is None else json.dumps(one) for one in metadata]
    read = [None if one is None else json.loads(one) for one in stored]
    for one, passed in zip(read, passes(server, stored, (condition,)), strict=True):
        meant = fulfils(one, condition)
        # Nothing that is meant is kept back; and where jsonb can hold it all, nothing else comes.
        assert passed or not meant, (one, condition)
        if ordinary(one) and ordinary(condition.value) and ordinary(condition.path):
            assert passed == meant, (one, condition)


def test_conditions_add_up_and_items_have_times_and_numbers(server: psycopg.Connection[Any]) -> None:
    where = (Condition(("a",), "$gte", 1), Condition(("b",), "$exists", True))
    stored = ['{"a": 1, "b": 0}', '{"a": 0, "b": 0}', '{"a": 2}', None]
    assert passes(server, stored, where) == [True, False, False, False]
    clause, parameters = selected(Selection(ids=(1, 2), since=1.0, until=2.0))
    assert clause == "true AND item.id = ANY(%s) AND item.time >= %s AND item.time < %s"
    assert parameters == [[1, 2], 1.0, 2.0]


@pytest.mark.parametrize(
    ("metadata", "facts"),
    [
        (None, None),
        ('{"a": 1}', '{"a": 1}'),
        ('{"a": "\\u00e4 \\ud83d\\ude42"}', '{"a": "ä 🙂"}'),
        ('{"a": "\\u0000"}', None),
        ('{"a": "\\ud800"}', None),
        ('{"a": "' + "x" * (1 << 20) + '"}', None),
    ],
)
def test_facts_are_what_jsonb_can_hold(metadata: str | None, facts: str | None) -> None:
    assert as_facts(metadata) == facts


def test_keys_that_jsonb_cannot_hold_are_never_sent() -> None:
    for operator, value, clause in (("$eq", 1, "false"), ("$ne", 1, "true"), ("$exists", False, "true")):
        assert jsonb_clause(Condition(("\0",), operator, value)) == (clause, [])
