"""What is known of one spilled tensor, and the trade between it and its placeholder."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from titan_nb.errors import SpillError
from titan_nb.living import Living
from titan_nb.memory.spill.store import Copy, plain_torch

__all__ = ["KEY", "Record", "lock", "records"]

KEY = "_titan_spilled"
"""Under this name a spilled tensor has its record among its own attributes, so that both die together."""


class _Lock:
    """One lock for all moves; a forked child gets a fresh one, because nobody would release its parent's."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


lock = _Lock()
"""Held while a tensor is being moved, in either direction."""

_living: Living[Record] = Living()


class Record:
    """One tensor that is, or is about to be, spilled.

    Every step can be interrupted: what is so is read from the tensor itself, and the next use finishes it.
    `torch.utils.swap_tensors` would trade the user's attributes too and refuse once he watches the tensor
    weakly, so its inner step is used.

    Args:
        tensor: The tensor.
        name: What it is called, for messages.
        placeholder: A tensor of the same shape without memory, of the class that the handle gets.

    Attributes:
        kind: The tensor's own class.
        size_bytes: What its memory holds.
        device: Where it was, and will be again.
        kept: The real tensor, as another Python object, while the handle has the placeholder.
        copy: Where its bytes are; None while they are in ``kept`` itself.
    """

    def __init__(self, tensor: Any, name: str, placeholder: Any) -> None:
        self.name = name
        self.kind = type(tensor)
        self.size_bytes: int = tensor.untyped_storage().nbytes()
        self.device = tensor.device
        self.kept = placeholder
        self.copy: Copy | None = None
        self._inside = tensor._cdata
        self._has_gradient = False
        self._tensor: Callable[[], Any] = weakref.ref(tensor)

    @property
    def tensor(self) -> Any:
        """The handle; None once nobody holds it."""
        return self._tensor()

    def begin(self) -> None:
        """Turn the tensor into a handle that still has its memory: from now on all new uses of it wait."""
        tensor = self.tensor
        tensor.__dict__[KEY] = self
        tensor.__class__ = type(self.kept)

    def free(self, copy: Copy) -> None:
        """Let the handle go on without its memory, whose bytes are in ``copy``."""
        import torch

        tensor = self.tensor
        _living.add(self)
        with plain_torch():
            self.copy = copy
            torch._C._swap_tensor_impl(tensor, self.kept)
            self.kept.__class__ = self.kind
            # The placeholder has the gradient, because backward() may meet it.
            tensor.grad = self.kept.grad
            self._has_gradient = True
            self.kept.grad = None
            self.kept.untyped_storage().resize_(0)

    def load(self) -> None:
        """Bring the bytes back into ``kept``; nothing is lost if that fails half way.

        Raises:
            torch.OutOfMemoryError: If the device is full.
            SpillError: If the bytes are gone or damaged.
        """
        with plain_torch():
            if self.copy is None or self._has_its_inside():
                return
            self.kept.__class__ = self.kind
            with _own_stream(self.device, self.name):
                storage = self.kept.untyped_storage()
                storage.resize_(self.size_bytes)
                try:
                    self.copy.fill(storage)
                except BaseException:
                    storage.resize_(0)
                    raise
        copy, self.copy = self.copy, None
        copy.drop()

    def end(self) -> bool:
        """Make the handle the tensor it was.

        Returns:
            False if C++ code or autograd knows the placeholder by now: it goes on standing for ``kept``.
        """
        tensor = self.tensor
        with plain_torch():
            if not self._has_its_inside():
                if tensor._use_count() > 1 or tensor.grad_fn is not None:
                    return False
                if tensor.requires_grad != self.kept.requires_grad:
                    return False
                if self._has_gradient:
                    self.kept.grad = tensor.grad
                self._trade_back(tensor)
            tensor.__class__ = self.kind
            tensor.__dict__.pop(KEY, None)
        _living.discard(self)
        # A traceback may hold this record; the tensor is to be free of it.
        self._tensor = _nobody
        return True

    def _has_its_inside(self) -> bool:
        return bool(self.tensor._cdata == self._inside)

    def _trade_back(self, tensor: Any) -> None:
        import torch

        # Should a thread have got hold of the placeholder just now, it stands for the tensor from here on.
        stand_in = object.__new__(Record)
        stand_in.__dict__.update(self.__dict__, kept=tensor, copy=None, _tensor=weakref.ref(self.kept))
        self.kept.__dict__[KEY] = stand_in
        self.kept.__class__ = type(tensor)
        torch._C._swap_tensor_impl(tensor, self.kept)


def records() -> list[Record]:
    """Return what is spilled now."""
    with lock:
        return [record for record in _living if record.tensor is not None]


def _nobody() -> None:
    return None


def _own_stream(device: Any, name: str) -> contextlib.AbstractContextManager[Any]:
    """Work on the device's default stream, from which the allocator will take the memory back one day.

    Raises:
        SpillError: If a CUDA graph is being captured, in which memory must not move.
    """
    import torch

    if device.type == "cpu":
        return contextlib.nullcontext()
    module = getattr(torch, device.type)
    capturing = getattr(module, "is_current_stream_capturing", None)
    if capturing is not None and capturing():
        raise SpillError(
            f"{name} is spilled and a CUDA graph is being captured: bring it back before, "
            "with %titan spill --back"
        )
    if not hasattr(module, "default_stream"):
        return contextlib.nullcontext()
    return module.stream(module.default_stream(device))  # type: ignore[no-any-return]
