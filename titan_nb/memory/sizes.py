"""Sizes in bytes, read from text."""

from __future__ import annotations

import re

from titan_nb.errors import SettingsError

__all__ = ["bytes_of"]

_NUMBER = re.compile(r"\s*((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*([A-Za-z]*)\s*")
_UNIT = re.compile(r"(?:([kmgtp])(i?))?(b?)", re.IGNORECASE)
_PREFIXES = " kmgtp"
_MOST = 2**63 - 1
"""What the kernel and the allocators count in."""


def bytes_of(text: str) -> int:
    """Return the bytes of a text such as ``8GiB``, ``512M`` or ``1073741824``.

    ``GiB``, ``Gi`` and a bare ``G`` are 1024 MiB, as for Docker and Slurm; ``GB`` is 1000 MB.

    Raises:
        SettingsError: If it is no size of 1 byte or more.
    """
    found = _NUMBER.fullmatch(text)
    unit = _UNIT.fullmatch(found[2]) if found else None
    if found is None or unit is None:
        raise _unusable(text)
    prefix, binary, b = (part or "" for part in unit.groups())
    if b == "b" and not prefix.islower():
        raise SettingsError(f"cannot use {text!r}: a small b means bits; give bytes, such as 512MiB or 8GiB")
    base = 1000 if b and not binary else 1024
    size = float(found[1]) * base ** (_PREFIXES.index(prefix.lower()) if prefix else 0)
    if not 1 <= size <= _MOST:
        raise _unusable(text)
    return int(size)


def _unusable(text: str) -> SettingsError:
    return SettingsError(f"cannot use {text!r}: give a size in bytes such as 512MiB, 8GiB or 1.5GB")
