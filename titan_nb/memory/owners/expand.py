"""What each kind of object refers to, and whether it holds memory itself."""

from __future__ import annotations

import contextlib
import gc
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import chain
from types import (
    AsyncGeneratorType,
    CodeType,
    CoroutineType,
    FrameType,
    FunctionType,
    GeneratorType,
    ModuleType,
    TracebackType,
)
from typing import Any, NamedTuple

from titan_nb.memory.owners.autograd import kept_by, slots_of_node
from titan_nb.memory.owners.roots import MACHINERY, Kind, is_machinery
from titan_nb.memory.owners.slots import has_referents, inherits, is_one_of, locals_of, package_of
from titan_nb.memory.owners.storages import BUFFERS, TEXTS, Storages
from titan_nb.memory.tensors import parts_of

__all__ = ["Expand", "Expander", "Label"]

_LARGE = 1 << 16
"""Elements above which a container is not copied into a list."""

_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset)

Expand = Callable[[Any], Iterable[Any]]
"""Adds what an object holds to the storages, and returns what it refers to."""


class Label(NamedTuple):
    """How a child is called after its parent.

    Attributes:
        before: What comes in front of the parent's name.
        after: What comes behind it.
        kind: How memory is held from here on, where that changes.
    """

    before: str
    after: str
    kind: Kind | None = None


class Expander:
    """Knows for each class how its objects are looked at.

    Attributes:
        known: By identity of a class: what to do with its objects, None to pass them.
        text: What is done with text and bytes.
        plain_dict: What is done with dictionaries that have no attributes.
        containers: What is done with objects that hold nothing but references.

    Args:
        storages: Where blocks of memory go.
        labels: Where names go that are known while an object is looked at, by parent and child.
    """

    def __init__(self, storages: Storages, labels: dict[int, dict[int, Label]]) -> None:
        self.known: dict[int, Expand | None] = {}
        self.text: Expand = self._buffer
        self.plain_dict: Expand = partial(_values)
        self.containers: set[Expand | None] = {gc.get_referents, _elements, _values, self.plain_dict}
        self._storages = storages
        self._labels = labels
        self._classes: list[type] = []  # kept alive, so that no identity is given away again
        self._storage_class = getattr(getattr(storages.torch, "_C", None), "StorageBase", None)
        self._special: dict[type, Expand | None] = {
            ModuleType: None,
            CodeType: None,
            FunctionType: self._function,
            FrameType: self._frame,
            TracebackType: self._traceback,
            GeneratorType: partial(self._generator, "gi_frame"),
            CoroutineType: partial(self._generator, "cr_frame"),
            AsyncGeneratorType: partial(self._generator, "ag_frame"),
            **dict.fromkeys(BUFFERS, self._buffer),
            **dict.fromkeys(TEXTS, self.text),
            **dict.fromkeys((dict, OrderedDict, defaultdict), self.plain_dict),
        }

    def of(self, thing: Any) -> Expand | None:
        """Return what to do with an object; None to pass it."""
        cls = type(thing)
        try:
            return self.known[id(cls)]
        except KeyError:
            self._classes.append(cls)
            found = self.known[id(cls)] = self._classify(cls)
            return found

    def clear(self) -> None:
        """Let go of all classes, and of the methods, which refer back here."""
        self.known.clear()
        self.containers.clear()
        self._special.clear()
        self._classes.clear()
        self.text = self.plain_dict = gc.get_referents

    def _classify(self, cls: type) -> Expand | None:
        for special, expand in self._special.items():  # no look-up by key: that would ask the metaclass
            if cls is special:
                return expand
        for base, expand in (
            (type, None),
            (self._storages.tensor, self._tensor),
            (self._storage_class, self._storage),
            (self._storages.ndarray, self._array),
        ):
            if base is not None and inherits(cls, base):
                return expand
        if package_of(cls) in MACHINERY or not has_referents(cls):
            return None
        slots = slots_of_node(cls)
        if slots is not None:
            return partial(self._node, slots)
        if inherits(cls, dict):
            return _values
        return _elements if any(inherits(cls, base) for base in _SEQUENCES) else gc.get_referents

    def _buffer(self, buffer: Any) -> Iterable[Any]:
        self._storages.add_buffer(buffer)
        return ()

    def _storage(self, storage: Any) -> Iterable[Any]:
        self._storages.add_storage(storage)
        return ()

    def _array(self, array: Any) -> Iterable[Any]:
        owner = self._storages.add_array(array)
        children = [*gc.get_referents(array), owner]
        ndarray = self._storages.ndarray
        if ndarray.dtype.__get__(array).kind == "O":
            return chain(children, ndarray.view(array, ndarray).flat)
        return children

    def _tensor(self, tensor: Any) -> Iterable[Any]:
        children: list[Any] = gc.get_referents(tensor)
        base = self._storages.tensor
        if not self._storages.add_tensor(tensor):
            return [*children, *self._parts(tensor)]
        if base.is_leaf.__get__(tensor) or base.retains_grad.__get__(tensor):  # others would warn
            grad = base.grad.__get__(tensor)
            if grad is not None:
                self._label(tensor, grad, Label("", ".grad", "grad"))
                children.append(grad)
        with contextlib.suppress(RuntimeError):  # views that were written to where that is forbidden
            node = base.grad_fn.__get__(tensor)
            if node is not None:
                self._label(tensor, node, Label("autograd graph of ", "", "autograd"))
                children.append(node)
        whole = base._base.__get__(tensor)
        if whole is not None:
            self._label(tensor, whole, Label("", "", "view"))
            children.append(whole)
        return children

    def _parts(self, tensor: Any) -> list[Any]:
        """Return the tensors that a sparse one consists of."""
        torch = self._storages.torch
        plain = is_one_of(type(tensor), (torch.Tensor, torch.nn.Parameter))
        found = parts_of(tensor) if plain else {}
        for name, part in found.items():
            self._label(tensor, part, Label("", f".{name.lstrip('_')}()"))
        if not found:
            self._storages.refuse(tensor)
        return list(found.values())

    def _node(self, slots: dict[str, Any], node: Any) -> Iterable[Any]:
        return [*kept_by(node, slots), *gc.get_referents(node)]

    def _function(self, function: FunctionType) -> Iterable[Any]:
        children = []
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=False):
            with contextlib.suppress(ValueError):  # not bound yet
                value = cell.cell_contents
                self._label(function, value, Label("closure of ", f": {name}", "closure"))
                children.append(value)
        arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
        defaults = function.__defaults__ or ()
        named = {
            **dict(zip(reversed(arguments), reversed(defaults), strict=False)),
            **(function.__kwdefaults__ or {}),
        }
        for name, value in named.items():
            self._label(function, value, Label("default of ", f": {name}", "closure"))
            children.append(value)
        # The rest are its attributes; the variables of its module are not its own.
        globals_, builtins = function.__globals__, getattr(function, "__builtins__", None)
        hidden = (globals_, builtins, function.__closure__, function.__defaults__, function.__kwdefaults__)
        rest = [one for one in gc.get_referents(function) if not any(one is other for other in hidden)]
        return children + rest

    def _frame(self, frame: FrameType) -> Iterable[Any]:
        if is_machinery(frame):
            return ()
        found = locals_of(frame)
        for name, value in found.items():
            self._label(frame, value, Label("", f" -> {name}"))
        return list(found.values())

    def _traceback(self, traceback: TracebackType) -> Iterable[Any]:
        frame = traceback.tb_frame
        self._label(traceback, frame, Label("", f" -> {frame.f_code.co_name}()"))
        return [frame, traceback.tb_next]

    def _generator(self, slot: str, generator: Any) -> Iterable[Any]:
        frame = getattr(generator, slot)
        children = []
        if frame is not None:
            for name, value in locals_of(frame).items():
                self._label(generator, value, Label("generator ", f" -> {name}", "generator"))
                children.append(value)
        # What it is about to use has no name: the iterator of a loop, another generator that it waits for.
        for one in gc.get_referents(generator):
            if type(one) is not FrameType:
                self._labels.setdefault(id(generator), {}).setdefault(
                    id(one), Label("generator ", "", "generator")
                )
                children.append(one)
        return children

    def _label(self, parent: Any, child: Any, label: Label) -> None:
        self._labels.setdefault(id(parent), {}).setdefault(id(child), label)


def _elements(container: Any) -> Iterable[Any]:
    for base in _SEQUENCES:
        if inherits(type(container), base) and base.__len__(container) > _LARGE:
            elements: Iterable[Any] = base.__iter__(container)
            return elements
    return gc.get_referents(container)


def _values(container: Any) -> Iterable[Any]:
    if dict.__len__(container) > _LARGE:
        return iter(dict.values(container))
    return gc.get_referents(container)
