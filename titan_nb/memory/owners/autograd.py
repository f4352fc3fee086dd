"""What a node of torch's autograd graph keeps for the backward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import GetSetDescriptorType
from typing import Any

from titan_nb.memory.owners.slots import bases_of, slots_of

__all__ = ["kept_by", "slots_of_node"]


def slots_of_node(cls: type) -> dict[str, Any] | None:
    """Return the slots by which nodes of a class tell what they keep; None for other classes."""
    slots = {
        name: slot
        for base in reversed(bases_of(cls))
        for name, slot in slots_of(base).items()
        if type(slot) is GetSetDescriptorType
    }
    if "next_functions" not in slots:
        return None
    wanted = {"next_functions", "variable", "saved_for_forward"}
    return {name: slot for name, slot in slots.items() if name in wanted or name.startswith("_raw_saved_")}


def kept_by(node: Any, slots: dict[str, Any]) -> Iterator[Any]:
    """Yield what ``node`` refers to; a saved tensor that it does not show comes as torch's own handle.

    The public ``_saved_*`` would run the user's unpack hooks. The handle behind each shows what the hook
    would be given; older releases of torch have a handle that shows nothing.
    """
    for name, slot in slots.items():
        kept: Any = ()
        with contextlib.suppress(Exception):  # the graph has been freed
            kept = slot.__get__(node)
        if name == "next_functions":
            yield from (function for function, _ in kept if function is not None)
        elif name.startswith("_raw_saved_"):
            for handle in kept if type(kept) in (tuple, list) else (kept,):
                yield _shown(handle)
        else:
            yield kept


def _shown(handle: Any) -> Any:
    slots = slots_of(type(handle))
    if "unpack_hook" not in slots or "data" not in slots:
        return handle
    try:
        return slots["data"].__get__(handle)
    except Exception:  # freed
        return None
