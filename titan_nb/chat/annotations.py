"""What is stored beside the numbers: the chat's id, texts and metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from titan_nb.errors import ChatError

__all__ = ["read_chat_id", "read_metadata", "read_texts"]


def read_chat_id(chat_id: Any) -> str:
    """Return ``chat_id`` if it is text that is not empty.

    Raises:
        ChatError: If it is not.
    """
    if not isinstance(chat_id, str) or not chat_id:
        raise ChatError(f"chat_id is {chat_id!r}: give a text that is not empty")
    return chat_id


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
