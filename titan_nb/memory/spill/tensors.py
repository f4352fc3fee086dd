"""The tensors in what the user names: variables, containers, modules and optimizers, with their paths."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["tensors_in"]

_MAPPINGS = (dict, OrderedDict, defaultdict)
_SEQUENCES = (list, tuple)


def tensors_in(named: Iterable[tuple[str, object]]) -> Iterator[tuple[str, Any]]:
    """Yield each tensor once, with a path such as ``model.layers.0.weight`` or ``data['train'][3]``.

    No code of the objects' classes runs: only builtin containers, modules and optimizers are looked into.

    Args:
        named: Objects and what they are called.
    """
    import torch

    seen: dict[int, object] = {}
    left = [*named][::-1]
    while left:
        path, thing = left.pop()
        kind = type(thing)
        bases = kind.__mro__
        is_tensor = torch.Tensor in bases
        if not is_tensor and kind not in (*_MAPPINGS, *_SEQUENCES) and not _known(bases, torch):
            continue
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if is_tensor:
            yield path, thing
        else:
            left += [*_parts(path, thing, torch)][::-1]


def _known(bases: tuple[type, ...], torch: Any) -> bool:
    return torch.nn.Module in bases or torch.optim.Optimizer in bases


def _parts(path: str, thing: Any, torch: Any) -> Iterable[tuple[str, Any]]:
    kind = type(thing)
    if kind in _SEQUENCES:
        return ((f"{path}[{index}]", one) for index, one in enumerate(tuple(thing)))
    if kind in _MAPPINGS:
        return ((f"{path}[{_key(key, index)}]", one) for index, (key, one) in enumerate(_items(thing)))
    own = object.__getattribute__(thing, "__dict__")
    if torch.optim.Optimizer in kind.__mro__:
        return [(f"{path}.state", own.get("state"))]
    return [
        (f"{path}.{name}", one)
        for group in ("_parameters", "_buffers", "_modules")
        for name, one in _items(own.get(group))
    ]


def _items(mapping: Any) -> list[tuple[Any, Any]]:
    return list(dict.items(mapping)) if type(mapping) in _MAPPINGS else []


def _key(key: object, index: int) -> str:
    return repr(key) if type(key) in (str, int) else str(index)
