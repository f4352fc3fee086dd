"""How the options of the chat verbs are read."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError

from titan_nb.errors import SettingsError
from titan_nb.notebook.chat_options import CHAT, check, since_of, where_of
from titan_nb.notebook.magics import TitanMagics


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", timedelta(hours=2)),
        ("1.5h", timedelta(minutes=90)),
        ("30m", timedelta(minutes=30)),
        ("30 min", timedelta(minutes=30)),
        ("45s", timedelta(seconds=45)),
        ("3d", timedelta(days=3)),
        ("2w", timedelta(days=14)),
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=timezone.utc)),
        ("2026-11-01T12:30", datetime(2026, 11, 1, 12, 30, tzinfo=timezone.utc)),
        ("2026-11-01T12:30+02:00", datetime(2026, 11, 1, 10, 30, tzinfo=timezone.utc)),
    ],
)
def test_since_is_an_age_or_a_date(text: str, expected: timedelta | datetime) -> None:
    assert since_of(text) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2", "h", "-2h", "2 h ago", "2026-13-01", "9" * 400 + "w"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="such as 30m, 2h or 3d, or a date such as 2026-11-01"):
        since_of(text)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (None, None),
        ([], None),
        (["role=user"], {"role": {"$eq": "user"}}),
        (["role==user"], {"role": {"$eq": "user"}}),
        (["role!=user"], {"role": {"$ne": "user"}}),
        (["page>=3", "page<9"], {"page": {"$gte": 3, "$lt": 9}}),
        (["page>3", "page<=9"], {"page": {"$gt": 3, "$lte": 9}}),
        (["loss<1.5e-3"], {"loss": {"$lt": 0.0015}}),
        (["x=-1"], {"x": {"$eq": -1}}),
        (["x=.5"], {"x": {"$eq": 0.5}}),
        (["ok=true", "bad=false"], {"ok": {"$eq": True}, "bad": {"$eq": False}}),
        (['page="3"', "ok='true'"], {"page": {"$eq": "3"}, "ok": {"$eq": "true"}}),
        (["author.name=Ada"], {"author.name": {"$eq": "Ada"}}),
        (['name="Ada', 'Lovelace"', "x=1"], {"name": {"$eq": "Ada Lovelace"}, "x": {"$eq": 1}}),
        (['"name=Ada Lovelace"'], {"name": {"$eq": "Ada Lovelace"}}),
        (["empty="], {"empty": {"$eq": ""}}),
        (["x=nan"], {"x": {"$eq": "nan"}}),
        (["x=a=b"], {"x": {"$eq": "a=b"}}),
        (["page", ">=", "3", "role", "=", "user"], {"page": {"$gte": 3}, "role": {"$eq": "user"}}),
        (["page", ">=3"], {"page": {"$gte": 3}}),
        (["page>=", "3", "x=1"], {"page": {"$gte": 3}, "x": {"$eq": 1}}),
        (['"page >= 3"', "'role = a b'"], {"page": {"$gte": 3}, "role": {"$eq": "a b"}}),
        (["name", "=", '"Ada', 'Lovelace"'], {"name": {"$eq": "Ada Lovelace"}}),
        (["x=", "y=2"], {"x": {"$eq": ""}, "y": {"$eq": 2}}),
    ],
)
def test_where_is_read(words: list[str] | None, expected: dict[str, Any] | None) -> None:
    found = where_of(words)
    assert found == expected
    types = [[type(value) for value in one.values()] for one in (found or {}).values()]
    assert types == [[type(value) for value in one.values()] for one in (expected or {}).values()]


@pytest.mark.parametrize(
    "words", [["role"], ["=3"], [">=", "3"], ['"what is x=1?"'], ["a", "b=1"], ["x", "=", "a", "b"]]
)
def test_what_is_no_condition_is_named(words: list[str]) -> None:
    with pytest.raises(UsageError, match="is no condition: write key=value"):
        where_of(words)


def test_a_condition_said_twice_is_refused() -> None:
    with pytest.raises(UsageError, match=r"says page=.* twice"):
        where_of(["page=3", "page==4"])


@given(st.lists(st.text(max_size=12), max_size=4))
def test_whatever_is_written_is_read_or_refused(words: list[str]) -> None:
    try:
        found = where_of(words)
    except UsageError:
        return
    assert (found is None) is (not words)


def test_a_column_without_a_chat_is_refused() -> None:
    with pytest.raises(UsageError, match="give --chat ID as well"):
        check(Namespace(verb="track", column="text", chat=None))
    check(Namespace(verb="track", column="text", chat="a"))
    check(Namespace(verb="remember", column="text", chat=None))


def test_the_options_are_the_parsers() -> None:
    parser: ArgumentParser = TitanMagics.titan.parser
    known = {action.dest for action in parser._actions}
    assert set().union(*CHAT.values()) <= known
