"""What users say beside the numbers: the chat's id, texts, metadata, ids and choices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast, get_args

from titan_nb.chat.store import Mode
from titan_nb.errors import ChatError
from titan_nb.whole_number import whole_number

__all__ = [
    "read_chat_id",
    "read_fields",
    "read_ids",
    "read_k",
    "read_metadata",
    "read_mode",
    "read_texts",
]

_LARGEST_ID = 2**63 - 1


def read_chat_id(chat_id: Any) -> str:
    """Return ``chat_id`` if it is text that is not empty.

    Raises:
        ChatError: If it is not.
    """
    if not isinstance(chat_id, str) or not chat_id:
        raise ChatError(f"chat_id is {chat_id!r}: give a text that is not empty")
    return _storable(chat_id, "chat_id")


def read_k(k: Any) -> int:
    """Return how many hits are wanted.

    Raises:
        ChatError: If it is not a whole number of at least 1.
    """
    wanted = whole_number(k, 1)
    if wanted is None:
        raise ChatError(f"k is {k!r}: give a whole number of at least 1")
    return wanted


def read_mode(mode: Any) -> Mode:
    """Return how a search is done.

    Raises:
        ChatError: If there is no such mode.
    """
    modes = get_args(Mode)
    if mode not in modes:
        raise ChatError(f"mode is {mode!r}: give {' or '.join(map(repr, modes))}")
    return cast("Mode", mode)


def read_ids(ids: Any, count: int | None) -> list[int] | None:
    """Return the numbers of items, ``count`` of them where that is given; None stands for none at all.

    Raises:
        ChatError: If one is not a number from 0 to 2^63 - 1, is given twice, or their number is wrong.
    """
    if ids is None:
        return None
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
        raise ChatError(f"ids is a {type(ids).__name__}: give a list of whole numbers")
    read: dict[int, None] = {}
    for place, given in enumerate(ids):
        number = whole_number(given, 0)
        if number is None or number > _LARGEST_ID:
            raise ChatError(f"ids[{place}] is {given!r}: an id is a whole number from 0 to 2^63 - 1")
        if number in read:
            raise ChatError(f"id {number} is given twice: ids must differ")
        read[number] = None
    if count is not None and len(read) != count:
        raise ChatError(f"{len(read)} ids for {count} rows: give one per row")
    return list(read)


def read_fields(fields: set[str]) -> frozenset[str]:
    """Return what an update changes.

    Raises:
        ChatError: If that is nothing.
    """
    if not fields:
        raise ChatError("say what to change: embedding, text or metadata")
    return frozenset(fields)


def read_texts(texts: Any, count: int) -> list[str | None]:
    """Return one text or None per row; None stands for no texts at all.

    Raises:
        ChatError: If their number is not ``count``, or one of them is neither text nor None.
    """
    if texts is None:
        return [None] * count
    read = _one_per_row(texts, count, "texts")
    for number, text in enumerate(read):
        if text is not None and not isinstance(text, str):
            raise ChatError(f"the text of row {number} is a {type(text).__name__}: give a str or None")
        if text is not None:
            _storable(text, f"the text of row {number}")
    return read


def read_metadata(metadata: Any, count: int) -> list[str | None]:
    """Return one JSON text or None per row; a single dict goes to every row.

    JSON text cannot be changed by whoever still holds the dict, and is what can be kept on disk.

    Raises:
        ChatError: If their number is not ``count``, or one of them is neither None nor a dict that JSON
            can hold.
    """
    if metadata is None:
        return [None] * count
    if isinstance(metadata, Mapping):
        return [_to_json(metadata, "the metadata (of row 0 and every other)")] * count
    rows = _one_per_row(metadata, count, "metadata")
    return [None if one is None else _to_json(one, f"the metadata of row {n}") for n, one in enumerate(rows)]


def _one_per_row(values: Any, count: int, name: str) -> list[Any]:
    if not isinstance(values, (list, tuple)):
        raise ChatError(f"{name} is a {type(values).__name__}: give a list with one entry per row")
    if len(values) != count:
        first = min(len(values), count)
        missing = "has none" if len(values) < count else "does not exist"
        raise ChatError(f"{len(values)} {name} for {count} rows (row {first} {missing}): give one per row")
    return list(values)


def _to_json(value: Any, subject: str) -> str:
    if not isinstance(value, dict):
        raise ChatError(f"{subject} is a {type(value).__name__}: give a dict or None")
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ChatError(
            f"{subject} cannot be written as JSON ({error}): use text, numbers, lists and dicts"
        ) from error


def _storable(text: str, subject: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ChatError(
            f"{subject} holds half of a surrogate pair at character {error.start}, which is no text: "
            "pass text.encode(errors='replace').decode()"
        ) from error
    return text
