"""The tensors and optimizers that objects hold, found without running any code of their classes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from titan_nb.memory.callee import attributes

__all__ = ["optimizers_of", "parts_of", "shape_of", "tensors_of", "undisturbed"]

# A container with more elements is data, not what training changes.
_MOST_ELEMENTS = 1000
# A list of models in an attribute of a trainer, and no deeper.
_DEEPEST = 2
# In one of torch's sparse layouts or another.
_PARTS = (
    "_indices",
    "_values",
    "crow_indices",
    "ccol_indices",
    "col_indices",
    "row_indices",
    "values",
)
_ATOMS = {bool, int, float, complex, str, bytes, type(None)}


def tensors_of(
    objects: Iterable[tuple[str, Any]], *, in_optimizers: bool = True
) -> Iterator[tuple[str, Any]]:
    """Yield each tensor in ``objects`` once, with the name of the object it was found in first.

    Looks into modules, optimizers, small containers and the attributes of other objects.

    Args:
        objects: Objects by name.
        in_optimizers: Whether to look into optimizers.
    """
    torch: Any = sys.modules.get("torch")
    for label, thing in _things(objects, torch, in_optimizers):
        if torch.Tensor in type(thing).__mro__:
            yield label, thing


def optimizers_of(objects: Iterable[tuple[str, Any]]) -> Iterator[Any]:
    """Yield each of torch's optimizers in ``objects`` once."""
    torch: Any = sys.modules.get("torch")
    for _, thing in _things(objects, torch, False):
        if torch.optim.Optimizer in type(thing).__mro__:
            yield thing


def parts_of(tensor: Any) -> dict[str, Any]:
    """Return the tensors that a sparse one consists of, by the methods that give them; empty for any other.

    Args:
        tensor: A plain tensor: a subclass may answer with code of its own.
    """
    torch: Any = sys.modules["torch"]
    found = {}
    for name in _PARTS:
        with contextlib.suppress(RuntimeError), torch.no_grad():  # of another layout
            found[name] = getattr(tensor, name)()
    return found


def shape_of(tensor: Any) -> tuple[Any, ...]:
    """Return the dtype and shape of a tensor."""
    with undisturbed():
        try:
            return tensor.dtype, *tensor.shape
        except RuntimeError:  # a nested tensor has none
            return (tensor.dtype,)


def undisturbed() -> contextlib.AbstractContextManager[Any]:
    """Ask tensors while no subclass and no mode of torch hears of it."""
    return sys.modules["torch"]._C.DisableTorchFunction()  # type: ignore[no-any-return]


def _things(objects: Iterable[tuple[str, Any]], torch: Any, in_optimizers: bool) -> Iterator[tuple[str, Any]]:
    """Yield tensors and optimizers by the name of the object they were found in."""
    # Missing while another thread is still importing torch.
    if not hasattr(torch, "Tensor") or not hasattr(torch, "optim") or not hasattr(torch, "nn"):
        return
    seen: dict[int, Any] = {}
    for label, root in objects:
        left = [(root, _DEEPEST)]
        while left:
            thing, depth = left.pop()
            if type(thing) in _ATOMS or id(thing) in seen:
                continue
            seen[id(thing)] = thing
            bases = type(thing).__mro__
            if torch.Tensor in bases:
                yield label, thing
            elif torch.nn.Module in bases:
                left += [(part, _DEEPEST) for part in reversed(_parts_of_module(thing))]
            elif torch.optim.Optimizer in bases:
                yield label, thing
                if in_optimizers:
                    left += [(part, 0) for part in reversed(_parts_of_optimizer(thing))]
            elif depth:
                left += [(part, depth - 1) for part in reversed(_parts(thing))]


def _parts_of_module(module: Any) -> list[Any]:
    own = attributes(module)
    return [part for name in ("_parameters", "_buffers", "_modules") for part in _values(own.get(name))]


def _parts_of_optimizer(optimizer: Any) -> list[Any]:
    own = attributes(optimizer)
    groups = own.get("param_groups")
    parameters = [group.get("params") for group in _values(groups) if type(group) is dict]
    return [part for some in (*parameters, *_values(own.get("state"))) for part in _values(some)]


def _parts(thing: Any) -> list[Any]:
    """Return the elements of a small container, or the attributes of an object of some class."""
    parts = _values(thing if type(thing) in (list, tuple, dict) else attributes(thing))
    if len(parts) > _MOST_ELEMENTS or set(map(type, parts)) <= _ATOMS:
        return []
    return parts


def _values(container: Any) -> list[Any]:
    """Return the elements or values of a builtin container, or of a class that inherits from one."""
    if dict in type(container).__mro__:
        return list(dict.values(container))
    return list(container) if type(container) in (list, tuple) else []
