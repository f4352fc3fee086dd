"""The user's namespace and random generators as one short text, to be compared between two kernels."""

from __future__ import annotations

import hashlib
import random
from types import ModuleType
from typing import Any

import numpy

__all__ = ["digest"]


def digest(names: dict[str, Any]) -> str:
    """Return a hash of all public names with their values, of ``_`` and ``Out``, and of the generators."""
    lines = [
        f"{name} = {getattr(value, '__name__', None) or repr(value)}"
        for name, value in sorted(names.items())
        if not name.startswith("_") and name not in ("In", "Out", "exit", "quit", "get_ipython")
        if not isinstance(value, ModuleType)
    ]
    lines += [repr(names.get("_")), repr(sorted(names["Out"]))]
    lines += [repr(random.getstate()), repr(numpy.random.get_state())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
