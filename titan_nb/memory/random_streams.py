"""The streams of random numbers that code can draw from, each with a way to look at it and to put it back."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from titan_nb.memory.accelerator import accelerator

__all__ = ["Stream", "frozen", "streams"]


@dataclass(frozen=True, slots=True)
class Stream:
    """One stream.

    Attributes:
        name: What to call it in a text, such as ``torch on cuda:0``.
        read: Returns its state.
        write: Puts a state back.
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], None]


def streams(objects: Iterable[tuple[str, Any]]) -> list[Stream]:
    """Return the streams of the whole process, and the generators among ``objects``.

    A library that is not loaded has none yet, an accelerator that is not started neither.

    Args:
        objects: Objects by name.
    """
    found = [Stream("random", random.getstate, random.setstate)]
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        read = numpy_random.get_state
        found.append(Stream("numpy", lambda: read(legacy=False), numpy_random.set_state))
    torch = sys.modules.get("torch")
    if torch is not None:
        found.append(Stream("torch", torch.get_rng_state, torch.set_rng_state))
        found += _on_accelerator(torch)
    seen: set[int] = set()
    for name, value in objects:
        own = None if id(value) in seen else _own(name, value, numpy_random, torch)
        if own is not None:
            seen.add(id(value))
            found.append(own)
    return found


def frozen(state: Any) -> bytes:
    """Return the state of a stream in a form that can be compared."""
    torch = sys.modules.get("torch")
    if torch is not None and type(state) is torch.Tensor:
        return bytes(state.tolist())
    return pickle.dumps(state)


def _on_accelerator(torch: Any) -> list[Stream]:
    found = accelerator()
    module = None if found is None else getattr(torch, found.kind)
    read, write = getattr(module, "get_rng_state", None), getattr(module, "set_rng_state", None)
    if found is None or read is None or write is None:
        return []
    if found.kind == "mps":
        return [Stream("torch on mps", read, write)]
    return [
        _of_device(f"torch on {found.kind}:{index}", index, read, write) for index in sorted(found.keys())
    ]


def _of_device(name: str, index: int, read: Callable[..., Any], write: Callable[..., None]) -> Stream:
    return Stream(name, lambda: read(index), lambda state: write(state, index))


def _own(name: str, value: Any, numpy_random: Any, torch: Any) -> Stream | None:
    # Exactly these types: a subclass may do anything when asked.
    kind = type(value)
    if kind is random.Random:
        return Stream(name, value.getstate, value.setstate)
    if numpy_random is not None and kind is numpy_random.RandomState:
        return Stream(name, lambda: value.get_state(legacy=False), value.set_state)
    if numpy_random is not None and kind is numpy_random.Generator:
        bits = value.bit_generator
        return Stream(name, lambda: bits.state, lambda state: setattr(bits, "state", state))
    if torch is not None and kind is torch.Generator:
        return Stream(name, value.get_state, value.set_state)
    return None
