"""A forecast from experience: what a cell took the last time it ran on inputs of the same shapes."""

from __future__ import annotations

import ast
import dis
import hashlib
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from titan_nb import units
from titan_nb.records import MemoryUse

__all__ = ["History"]

_FLAGS = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
Key = tuple[bytes, tuple[Any, ...]]


class History:
    """The peaks of the cells that ran last, by source and by the shapes of what they read.

    It holds digests, names, shapes and numbers, and no object of the user's. Two runs count as the same when
    the source is the same and every tensor or array that the cell reads at its top level, before it binds the
    name itself, has the same shape, type and device. Numbers, such as a batch size, are not looked at.

    Args:
        limit: How many runs are remembered; the one not asked for longest goes first.
    """

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._names: OrderedDict[bytes, tuple[str, ...]] = OrderedDict()
        self._runs: OrderedDict[Key, tuple[tuple[str, int, int], ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._runs)

    def key(self, source: str, namespace: Mapping[str, Any]) -> Key:
        """Return what a run goes by; ask for it before the cell runs, because it may change the shapes.

        Args:
            source: The cell as Python source, after IPython's transformation.
            namespace: Its globals.
        """
        digest = hashlib.blake2b(source.encode(errors="replace"), digest_size=16).digest()
        names = self._names.get(digest)
        if names is None:
            names = self._names[digest] = _read_names(source)
            if len(self._names) > self._limit:
                self._names.popitem(last=False)
        shapes = ((name, _shape(namespace.get(name))) for name in names)
        return digest, tuple(one for one in shapes if one[1] is not None)

    def remember(self, key: Key, use: MemoryUse) -> None:
        """Remember what the run of that key took."""
        self._runs[key] = tuple(
            (device, memory.peak_bytes, memory.before_bytes) for device, memory in use.devices.items()
        )
        self._runs.move_to_end(key)
        if len(self._runs) > self._limit:
            self._runs.popitem(last=False)

    def expect(self, key: Key) -> str | None:
        """Return what the cell took when it last ran like this, as text, or None if it never did."""
        run = self._runs.get(key)
        if not run:
            return None
        self._runs.move_to_end(key)
        parts = [
            f"{units.byte_size(peak)} on {'this host' if device.startswith('ram:') else device} "
            f"({units.byte_size(peak - before, signed=True)})"
            for device, peak, before in run
        ]
        return f"with inputs of these shapes this cell last took a peak of {', '.join(parts)}"


def _read_names(source: str) -> tuple[str, ...]:
    """Return the names that a cell reads at its top level before it binds them."""
    try:
        code = compile(source, "<cell>", "exec", _FLAGS, dont_inherit=True)
    except (SyntaxError, ValueError):
        return ()
    first: dict[str, str] = {}
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL", "STORE_NAME", "DELETE_NAME"):
            first.setdefault(str(instruction.argval), instruction.opname)
    return tuple(name for name, operation in first.items() if operation.startswith("LOAD"))


def _shape(value: object) -> tuple[Any, ...] | None:
    """Return shape, type and device of a tensor or an array, and None for anything else.

    Subclasses are left out: their attributes may run code of their own.
    """
    kind = type(value)
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is not None and kind in (
        getattr(torch, "Tensor", None),
        getattr(getattr(torch, "nn", None), "Parameter", None),
    ):
        tensor: Any = value
        return tuple(tensor.shape), str(tensor.dtype), str(tensor.device)
    if numpy is not None and kind is getattr(numpy, "ndarray", None):
        array: Any = value
        return array.shape, str(array.dtype), "cpu"
    return None
