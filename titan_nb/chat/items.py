"""What a store answers, as its users get it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone

from titan_nb.chat.records import Hit, Item
from titan_nb.chat.store import Match, StoredItem

__all__ = ["hits_of", "item_of"]

_read = json.loads
_moment = datetime.fromtimestamp


def hits_of(matches: Sequence[Match]) -> list[Hit]:
    """Return what was found for one query."""
    utc = timezone.utc
    # In one go: ten calls for ten hits would cost a tenth of a small search.
    return [
        Hit(number, chat_id, score, text, None if metadata is None else _read(metadata), _moment(time, utc))
        for (number, chat_id, text, metadata, time, _), score in matches
    ]


def item_of(item: StoredItem) -> Item:
    """Return what is stored."""
    number, chat_id, text, metadata, time, embedding = item
    noted = None if metadata is None else _read(metadata)
    return Item(number, chat_id, text, noted, _moment(time, timezone.utc), embedding)
