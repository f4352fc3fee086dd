"""What a device key is called on the screen; the full key stays in the JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from titan_nb.views.plain import plain

__all__ = ["by_kind", "device_name", "kind"]

_KINDS = {"gpu": "GPU", "cpu": "CPU", "cpu-process": "CPU", "ram": "RAM", "dram": "RAM"}
_Value = TypeVar("_Value")


def kind(key: str) -> str:
    """Return ``GPU``, ``CPU`` or ``RAM`` for a device key, or its own first word if it is another."""
    first = key.partition(":")[0]
    return _KINDS.get(first) or plain(first, 16) or "device"


def device_name(key: str) -> str:
    """Return a short name for a device key, such as ``GPU 8f3a1c2d`` or ``CPU (this process)``."""
    first, _, rest = key.partition(":")
    if first == "gpu":
        return f"GPU {plain(rest.removeprefix('GPU-').partition('-')[0], 16)}".rstrip()
    if first in ("cpu", "dram"):
        return f"{_KINDS[first]} {plain(rest.rpartition(':')[2], 16)}".rstrip()
    if first in ("cpu-process", "ram"):
        return f"{_KINDS[first]} (this process)"
    return plain(key, 40) or "device"


def by_kind(parts: Mapping[str, _Value]) -> dict[str, list[_Value]]:
    """Group ``parts`` by kind: GPU, CPU, RAM, then others in their own order."""
    order: Iterable[str] = ("GPU", "CPU", "RAM")
    groups: dict[str, list[_Value]] = {name: [] for name in order}
    for key, part in parts.items():
        groups.setdefault(kind(key), []).append(part)
    return {name: group for name, group in groups.items() if group}
