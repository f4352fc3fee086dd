"""Values that came from outside, made safe for one line of a terminal or a page, and for JSON."""

from __future__ import annotations

import math
import unicodedata
from typing import Any

__all__ = ["json_ready", "plain", "width"]

# They would turn round the order of everything that follows them on the line.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def plain(text: str, limit: int = 300) -> str:
    """Return ``text`` on one line, without control characters, cut to ``limit`` characters."""
    # Cut first: a label may be megabytes long, and joining spaces can only make it shorter.
    kept = text[: 4 * limit]
    if not kept.isprintable():
        kept = "".join(_shown(letter) for letter in kept)
    line = " ".join(kept.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def width(text: str) -> int:
    """Return how many columns of a terminal ``text`` takes; wide letters take two, combining ones none."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )


def json_ready(value: Any) -> Any:
    """Return ``value`` without what JSON cannot say: NaN and infinities become None, lone surrogates ?."""
    if isinstance(value, dict):
        return {json_ready(key): json_ready(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(part) for part in value]
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _shown(letter: str) -> str:
    if letter in _BIDI:
        return ""
    category = unicodedata.category(letter)
    if category == "Cs":
        return "\N{REPLACEMENT CHARACTER}"  # half a surrogate pair cannot be sent as UTF-8
    return " " if category in ("Cc", "Zl", "Zp") else letter
