"""The options of `%titan` that are about the chat memory."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar

from IPython.core.error import UsageError
from IPython.core.magic_arguments import argument

from titan_nb.errors import SettingsError
from titan_nb.notebook.options import amount, unquoted

__all__ = ["ACTIONS", "CHAT", "QUOTED", "chat_arguments", "check", "since_of", "where_of"]

F = TypeVar("F", bound=Callable[..., Any])

ACTIONS = ("ls", "show", "forget", "compact", "save", "open")
"""What stands after `%titan chat`."""

QUOTED = frozenset({"remember", "recall"})
"""Verbs whose text needs quotes."""

CHAT: dict[str, frozenset[str]] = {
    "chat": frozenset({"text", "other", "k", "discard"}),
    "remember": frozenset({"text", "chat", "column"}),
    "recall": frozenset({"text", "chat", "k", "where", "since", "fast", "output"}),
}
"""Which options each verb takes, by their names in the namespace that argparse returns."""

_UNITS = {"s": "seconds", "m": "minutes", "min": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s?(s|min|m|h|d|w)")
_SIGN = r"==|!=|>=|<=|=|>|<"
_CONDITION = re.compile(rf"(?P<key>[\w.-]+)\s*(?P<sign>{_SIGN})\s*(?P<value>.*)", re.DOTALL)
_KEY = re.compile(r"[\w.-]+")
_SIGNED = re.compile(rf"({_SIGN}).*", re.DOTALL)
_OPERATORS = {"=": "$eq", "==": "$eq", "!=": "$ne", ">": "$gt", ">=": "$gte", "<": "$lt", "<=": "$lte"}
_INTEGER = re.compile(r"[-+]?\d+")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_WORDS = {"true": True, "false": False}


def since_of(text: str) -> timedelta | datetime:
    """Return an age such as ``2h``, or a date such as ``2026-11-01``, which is in UTC.

    Raises:
        SettingsError: If it is neither.
    """
    age = _AGE.fullmatch(text)
    try:
        if age is not None:
            return timedelta(**{_UNITS[age[2]]: float(age[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise SettingsError(
            f"cannot use {text!r}: give an age such as 30m, 2h or 3d, or a date such as 2026-11-01 (UTC)"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def where_of(words: Sequence[str] | None) -> dict[str, dict[str, Any]] | None:
    """Return the conditions on metadata that ``role=user page>=3`` stands for.

    Numbers, ``true`` and ``false`` are read as such; quotes keep them texts: ``page="3"``.

    Raises:
        UsageError: If a word is no condition.
    """
    if not words:
        return None
    conditions: dict[str, dict[str, Any]] = {}
    for word in _rejoined(words):
        found = _CONDITION.fullmatch(word)
        if found is None:
            raise UsageError(
                f"--where {word} is no condition: write key=value (also !=, >=, <=, > and <); "
                "a question goes before --where"
            )
        wanted, operator = conditions.setdefault(found["key"], {}), _OPERATORS[found["sign"]]
        if operator in wanted:
            raise UsageError(f"--where says {found['key']}{found['sign']} twice: say it once")
        wanted[operator] = _value(found["value"])
    return conditions


def check(options: Any) -> None:
    """Refuse options that mean nothing without another one.

    Raises:
        UsageError: If the other one is missing.
    """
    if options.column is not None and options.verb == "track" and options.chat is None:
        raise UsageError("--column says what of a DataFrame goes into a chat: give --chat ID as well")


def chat_arguments(function: F) -> F:
    """Give a magic the options that are about the chat memory."""
    for add in reversed(_ARGUMENTS):
        function = add(function)
    return function


def _rejoined(words: Sequence[str]) -> list[str]:
    """Return one condition each, as it was before IPython split it at the spaces.

    They stand in quotes, as in ``name="Ada Lovelace"``, or around the sign, as in ``page >= 3``.
    """
    joined: list[str] = []
    for word in words:
        before = joined[-1] if joined else ""
        found = _CONDITION.fullmatch(before)
        if _is_open(before):
            joined[-1] += f" {word}"
        elif (_KEY.fullmatch(before) and _SIGNED.fullmatch(word)) or (
            found is not None and not found["value"] and not _CONDITION.fullmatch(word)
        ):
            joined[-1] += word
        else:
            joined.append(unquoted(word))
    return joined


def _is_open(word: str) -> bool:
    found = _CONDITION.fullmatch(word)
    value = "" if found is None else found["value"]
    return value[:1] in ('"', "'") and (len(value) == 1 or value[-1] != value[0])


def _value(text: str) -> str | int | float | bool:
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else unquoted(text)


_ARGUMENTS: tuple[Callable[[Any], Any], ...] = (
    argument(
        "--chat",
        metavar="ID",
        type=unquoted,
        help="With a cell: store its last value, embeddings or texts, in chat ID. With remember: which chat "
        "('notes' by default). With recall: look in this one only.",
    ),
    argument(
        "--column",
        metavar="NAME",
        type=unquoted,
        help="Which column of a DataFrame is stored, by --chat or remember.",
    ),
    argument(
        "--where",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        help="For recall: what the metadata must be, such as role=user cell>=3.",
    ),
    argument(
        "--since",
        metavar="TIME",
        type=amount(since_of),
        help="For recall: not older than 30m, 2h or 3d, or not before a date: 2026-11-01 (UTC).",
    ),
    argument(
        "--fast",
        action="store_true",
        help="For recall: search a very large memory faster, with a small chance to miss something.",
    ),
    argument(
        "--discard", action="store_true", help="For chat open: drop what the memory before holds in RAM only."
    ),
    argument(
        "--remember",
        action="store_true",
        help="With on: keep each cell's source and text output in chat 'notebook', for recall to find.",
    ),
)
