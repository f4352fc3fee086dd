"""What counts as a whole number that a user gives."""

from __future__ import annotations

import operator
from typing import Any

__all__ = ["whole_number"]


def whole_number(value: Any, least: int) -> int | None:
    """Return ``value`` as an integer of at least ``least``; None if it is none.

    A number of NumPy or a tensor of one is a whole number; a truth value is not, for it is a slip.
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        return None
    return number if number is not None and number >= least else None
