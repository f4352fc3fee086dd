"""Times, as users give them."""

from __future__ import annotations

import math
import time
from datetime import datetime, timedelta
from typing import Any

from titan_nb.errors import ChatError

__all__ = ["read_moment", "read_times"]

_LATEST = 253_402_300_799  # the last second of the year 9999: what a datetime can show
_WAYS = "a datetime, or seconds since 1970"


def read_times(times: Any, count: int) -> list[float]:
    """Return one time per row in seconds since 1970: the given ones, or now.

    Raises:
        ChatError: If their number is not ``count``, or one of them is no time.
    """
    if times is None:
        return [time.time()] * count
    if not isinstance(times, (list, tuple)):
        return [_seconds(times, "times")] * count
    if len(times) != count:
        raise ChatError(f"{len(times)} times for {count} rows: give one per row, or one for all")
    return [_seconds(one, f"the time of row {number}") for number, one in enumerate(times)]


def read_moment(value: Any, name: str) -> float | None:
    """Return a moment in seconds since 1970; a timedelta is as long before now.

    Raises:
        ChatError: If it is no time.
    """
    if value is None:
        return None
    if isinstance(value, timedelta):
        return time.time() - value.total_seconds()
    return _seconds(value, name)


def _seconds(value: Any, subject: str) -> float:
    if isinstance(value, datetime):
        try:
            return value.timestamp()
        except (OverflowError, OSError, ValueError) as error:
            raise ChatError(f"{subject} is {value!r}, which has no place on the clock") from error
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ChatError(f"{subject} is a {type(value).__name__}: give {_WAYS}")
    if not math.isfinite(value) or not 0 <= value <= _LATEST:
        raise ChatError(f"{subject} is {value!r}: give {_WAYS}, from 0 to {_LATEST}")
    return float(value)
