"""Which items are selected, as SQL."""

from __future__ import annotations

import json
from typing import Any, cast

from titan_nb.chat.store import Selection
from titan_nb.chat.where import Condition, Scalar

__all__ = ["as_facts", "is_text", "jsonb_clause", "selected"]

# Up to here all whole numbers are floats too, and shortest decimals stand in the order of their floats.
_EXACT_NUMBER = 2**53
_LARGEST_FACTS = 1 << 20
_ORDER = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_ANY_METADATA = "(metadata IS NOT NULL AND facts IS NULL)"


def selected(selection: Selection) -> tuple[str, list[Any]]:
    """Return a condition on ``titan_item AS item``, and its parameters; the chat is left out.

    What it lets through must still be shown to `fulfils` where there are conditions on metadata.
    """
    parts = ["true"]
    parameters: list[Any] = []
    for clause, value in (
        ("item.id = ANY(%s)", None if selection.ids is None else [*selection.ids]),
        ("item.time >= %s", selection.since),
        ("item.time < %s", selection.until),
    ):
        if value is not None:
            parts.append(clause)
            parameters.append(value)
    for condition in selection.where:
        clause, values = jsonb_clause(condition)
        parts.append(f"({_ANY_METADATA} OR {clause})")
        parameters += values
    return " AND ".join(parts), parameters


def as_facts(metadata: str | None) -> str | None:
    """Return what of an item's metadata can be asked of ``jsonb``: all, or None where that cannot hold it.

    It holds neither NUL nor halves of surrogate pairs, and has a limit to its size.
    """
    if metadata is None or len(metadata) > _LARGEST_FACTS:
        return None
    if "\\u" not in metadata:
        return metadata
    plain = json.dumps(json.loads(metadata), ensure_ascii=False)
    return plain if "\\u0000" not in plain and is_text(plain) else None


def is_text(text: str) -> bool:
    """Say whether PostgreSQL can hold this text: no NUL, and no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def jsonb_clause(condition: Condition) -> tuple[str, list[Any]]:
    """Return SQL on the column ``facts`` that is true for all items that fulfil ``condition``.

    It is true for no others but where numbers beyond 2^53 are asked for: ``jsonb`` keeps decimals, and there
    a float's decimals are not the float.
    """
    operator, wanted = condition.operator, condition.value
    if not all(map(is_text, condition.path)):
        return ("true" if operator == "$ne" or (operator == "$exists" and not wanted) else "false"), []
    value = "facts" + " -> %s::text" * len(condition.path)
    path: list[Any] = [*condition.path]
    if operator == "$exists":
        return f"({value}) IS {'NOT ' if wanted else ''}NULL", path
    if operator == "$in":
        parts = [_equal(value, path, one) for one in cast("tuple[Scalar, ...]", wanted)]
        clause = " OR ".join(part for part, _ in parts) or "false"
        return f"({clause})", [parameter for _, some in parts for parameter in some]
    wanted = cast("Scalar", wanted)
    if operator == "$eq":
        return _equal(value, path, wanted)
    if operator == "$ne":
        if _is_large(wanted) or (isinstance(wanted, str) and not is_text(wanted)):
            return "true", []
        clause, parameters = _equal(value, path, wanted)
        return f"({clause}) IS NOT TRUE", parameters
    sign = _ORDER[operator]
    if isinstance(wanted, str):
        if not is_text(wanted):
            return f"jsonb_typeof({value}) = 'string'", path
        # Text is ordered by code points: that is the order of its bytes in UTF-8.
        return (
            f"(jsonb_typeof({value}) = 'string' "
            f'AND (({value}) #>> \'{{}}\') COLLATE "C" {sign} %s::text COLLATE "C")'
        ), [*path, *path, wanted]
    if _is_large(wanted):
        return f"jsonb_typeof({value}) = 'number'", path
    return f"(jsonb_typeof({value}) = 'number' AND {value} {sign} %s::jsonb)", [
        *path,
        *path,
        json.dumps(wanted),
    ]


def _equal(value: str, path: list[Any], wanted: Scalar) -> tuple[str, list[Any]]:
    if _is_large(wanted):
        return f"jsonb_typeof({value}) = 'number'", path
    if isinstance(wanted, str) and not is_text(wanted):
        return "false", []
    return f"{value} = %s::jsonb", [*path, json.dumps(wanted, ensure_ascii=False)]


def _is_large(wanted: Scalar) -> bool:
    return isinstance(wanted, (int, float)) and abs(wanted) > _EXACT_NUMBER
