"""Running torch's operations on tensors that have a shape and a device but no data, and counting those.

Every operation runs under torch's `FakeTensorMode`. The user's own tensors are replaced by fake ones as they
are used, and count as resident. A few values are real: integers on the host, such as shuffled indices and
class labels, and single numbers, such as an optimizer's step. They are small, and without them no loader and
no optimizer would get past its first line. Whatever else asks for a value ends the forecast there.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from typing import Any

from titan_nb.memory.forecast.storages import Storages
from titan_nb.memory.tensors import parts_of

__all__ = ["KNOWN_BYTES", "count_resident", "counting_mode"]

KNOWN_BYTES = 16 << 20
"""Integers on the host are computed for real up to this size of a tensor."""


def count_resident(storages: Storages) -> dict[str, int]:
    """Follow the storages of all tensors that exist, and return what they hold by device.

    A tensor that Python never saw, such as one saved for backward, or that `gc.freeze` hides is not among
    them. Subclasses that wrap other tensors are left out: those others are found by themselves.
    """
    import torch

    plain = {torch.Tensor, torch.nn.Parameter, getattr(torch.nn, "Buffer", torch.Tensor)}
    found: dict[str, int] = {}
    for tensor in [part for one in gc.get_objects() if type(one) in plain for part in _with_storage(one)]:
        device = str(tensor.device)
        if device != "meta":
            found[device] = found.get(device, 0) + storages.follow(tensor.untyped_storage(), device)
    return found


def _with_storage(tensor: Any) -> Iterable[Any]:
    """Return a tensor, or what a sparse one consists of; nothing for a layout that torch keeps to itself."""
    try:
        tensor.untyped_storage()
    except NotImplementedError:
        return parts_of(tensor).values()
    return (tensor,)


def counting_mode(storages: Storages, devices: Iterable[str] = ()) -> Any:
    """Return a context in which torch's operations only pretend to run, and ``storages`` counts them.

    Args:
        storages: The count.
        devices: Devices that are known to be there, such as ``cuda:0``.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    operations = _Operations(storages, {device.partition(":")[0] for device in devices})

    class Counting(TorchDispatchMode):  # type: ignore[misc]
        def __enter__(self) -> Any:
            operations.fake_mode.__enter__()
            return super().__enter__()

        def __exit__(self, *error: Any) -> None:
            super().__exit__(*error)
            operations.fake_mode.__exit__(*error)

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return operations.run(func, args, kwargs or {})

    return Counting()


class _Operations:
    """What becomes of each operation."""

    def __init__(self, storages: Storages, kinds: set[str]) -> None:
        import torch
        from torch._subclasses import fake_tensor
        from torch.utils import _python_dispatch, _pytree, weak

        self.fake_mode = fake_tensor.FakeTensorMode(allow_non_fake_inputs=True)
        self._storages = storages
        self._kinds = {"cpu", "meta", *kinds}
        self._tensor = torch.Tensor
        self._fake = fake_tensor.FakeTensor
        self._plain = (torch.Tensor, torch.nn.Parameter)
        self._strided = torch.strided
        self._needs_values = (
            fake_tensor.DataDependentOutputException,
            fake_tensor.DynamicOutputShapeException,
        )
        self._tree = _pytree
        self._no_modes = _python_dispatch._disable_current_modes
        self._stand_ins = weak.WeakTensorKeyDictionary()
        self._changed = weak.WeakTensorKeyDictionary()

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        flat, shape = self._tree.tree_flatten((args, kwargs))
        tensors = [one for one in flat if isinstance(one, self._tensor)]
        known = all(self._is_known(one) for one in tensors)
        pretended, named = self._tree.tree_unflatten([self._pretended(one) for one in flat], shape)
        try:
            result = func(*pretended, **named)
        except self._needs_values:
            if not (known and tensors):
                raise
            real = True
        else:
            real = known and all(self._may_be_known(one) for one in self._tensors(result))
        if real:
            with self._no_modes():
                result = func(*args, **kwargs)
        else:
            self._note_changes(func, args)
        for one in self._tensors(result):
            self._check(one.device.type)
            self._count(one)
        return result

    def _tensors(self, tree: Any) -> list[Any]:
        return [one for one in self._tree.tree_leaves(tree) if isinstance(one, self._tensor)]

    def _is_known(self, tensor: Any) -> bool:
        return type(tensor) in self._plain and tensor not in self._changed and self._may_be_known(tensor)

    def _may_be_known(self, tensor: Any) -> bool:
        if tensor.device.type != "cpu" or tensor.layout is not self._strided:
            return False
        number = tensor.numel()
        whole = not (tensor.is_floating_point() or tensor.is_complex())
        return bool(number == 1 or (whole and number * tensor.element_size() <= KNOWN_BYTES))

    def _pretended(self, value: Any) -> Any:
        """Return the fake tensor that stands for a real one, and anything else as it is."""
        if not isinstance(value, self._tensor) or isinstance(value, self._fake):
            return value
        fake = self._stand_ins.get(value)
        if fake is None:
            with self._no_modes():
                fake = self.fake_mode.from_tensor(value)
            self._stand_ins[value] = fake
            if value.layout is self._strided:
                self._storages.link(fake.untyped_storage(), value.untyped_storage())
        return fake

    def _note_changes(self, func: Any, args: Any) -> None:
        """Take note of real tensors that were only pretended to be written: their values are unknown now."""
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for one in self._tensors(value):
                    if not isinstance(one, self._fake):
                        self._changed[one] = True

    def _check(self, kind: str) -> None:
        """Refuse a device that is not there: fake tensors do not mind, but their gradients abort torch."""
        if kind not in self._kinds:
            if not getattr(sys.modules.get(f"torch.{kind}"), "is_available", bool)():
                raise RuntimeError(f"there is no {kind} device here")
            self._kinds.add(kind)

    def _count(self, tensor: Any) -> None:
        if tensor.layout is self._strided and tensor.device.type != "meta":
            self._storages.hold(tensor.untyped_storage(), str(tensor.device))
