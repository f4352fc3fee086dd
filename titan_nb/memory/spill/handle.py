"""The classes that a spilled tensor has meanwhile: whatever it is used for brings its memory back first.

The object trades its inside with a placeholder that has no memory. Python code that uses it passes
`__torch_function__`, which trades back; what it is (shape, dtype, device, gradient) the placeholder answers.
C++ code that got hold of the placeholder itself comes to `__torch_dispatch__`, which computes on the real
tensor in its place.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

from titan_nb.errors import SpillError
from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.host_peak import HostPeak
from titan_nb.memory.reclaim import ask_yielders
from titan_nb.memory.shortage import is_shortage
from titan_nb.memory.spill.metadata import metadata
from titan_nb.memory.spill.record import KEY, Record, lock

__all__ = ["is_handle", "placeholder", "record_of", "restore"]


def is_handle(tensor: object) -> bool:
    """Say whether this is a tensor that is spilled."""
    return _Handle in type(tensor).__mro__


def record_of(tensor: Any) -> Record | None:
    """Return what is known of a tensor that is spilled; None for all others."""
    return tensor.__dict__.get(KEY) if is_handle(tensor) else None


def restore(tensor: Any) -> bool:
    """Bring a spilled tensor back to where it was; nothing happens to any other.

    Returns:
        False if it stays a handle, because C++ code or autograd holds on to it. Its memory is back.

    Raises:
        torch.OutOfMemoryError: If the device is full; the tensor stays spilled.
        SpillError: If its bytes are gone or damaged.
    """
    if not is_handle(tensor):
        return True
    try:
        return _settled(tensor)
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        shortage: BaseException = error.with_traceback(None)
    # After the except block, where nothing holds what the failed attempt had; and without the lock, because
    # those who are asked to give memory back have locks of their own.
    record = record_of(tensor)
    try:
        if record is not None and not _given_back(record):
            raise shortage
    finally:
        del shortage  # or it would hold this frame, which holds it
    return _settled(tensor)


def placeholder(tensor: Any) -> Any:
    """Make a tensor of the same shape, dtype and device that has no memory and is a handle by its class."""
    import torch

    kind: Any = type(tensor)
    # With a backend of its own C++ refuses `other.data = handle`, which would copy the emptiness silently.
    made = torch.Tensor._make_wrapper_subclass(
        _handle_class(kind),
        tensor.size(),
        strides=tensor.stride(),
        storage_offset=tensor.storage_offset(),
        dtype=tensor.dtype,
        layout=tensor.layout,
        device="meta",
        requires_grad=tensor.requires_grad,
        dispatch_device=True,
    )
    forbid = getattr(torch._C, "_set_throw_on_mutable_data_ptr", None)
    if forbid is not None:
        forbid(made)
    return made


def _uncompiled(method: Callable[..., Any]) -> Callable[..., Any]:
    """Let torch.compile run ``method`` as it is, where it would else compile the very moves of memory."""

    @functools.wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        import torch

        exchange = torch._C._dynamo.eval_frame.set_eval_frame
        compiler = exchange(None)
        try:
            return method(*args, **kwargs)
        finally:
            exchange(compiler)

    return called


class _Handle:
    """What the handles have in common; mixed into each class of torch's whose objects can be spilled."""

    @classmethod
    @_uncompiled
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Bring back the spilled tensors among the arguments, and do what was asked."""
        import torch

        kwargs = kwargs or {}
        if func not in metadata():
            found = list(_handles_in((args, kwargs)))
            if found and torch._C._get_tracing_state() is not None:
                # The trace knows the placeholder; traded now, the values would become a constant in it.
                raise _spilled_error(found[0], "is spilled, and torch.jit traces what is done with it")
            staying = [tensor for tensor in found if not restore(tensor)]
            if found and not staying:
                return func(*args, **kwargs)
            # Held by C++ code, as inside an autograd function: the real tensors can do it, unless autograd
            # is to see the placeholder, which it knows. That goes the way of C++ code, as what was not found.
            if found and not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in staying)):
                return _on_real_tensors(func, args, kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    @_uncompiled
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute on the real tensors in place of their placeholders."""
        import torch

        if func is torch.ops.prim.device.default:
            record = record_of(args[0])
            return torch.device("meta") if record is None else record.device
        if torch.Tag.inplace_view in func.tags and is_handle(args[0]):
            raise _spilled_error(args[0], "is spilled, and C++ code wants to give it another shape")
        return _on_real_tensors(func, args, kwargs or {})

    # These look at the class before they ask the tensor.

    @_uncompiled
    def __deepcopy__(self, memo: Any) -> Any:
        return copy.deepcopy(_real(self), memo)

    @_uncompiled
    def __reduce_ex__(self, protocol: Any) -> Any:
        return _real(self).__reduce_ex__(protocol)


@functools.cache
def _handle_class(kind: Any) -> Any:
    """Return the class of handles for objects of ``kind``, which inherits from it."""
    made = type(f"Spilled{kind.__name__}", (_Handle, kind), {"__module__": __name__})
    _let_processes_share(made)
    return made


def _let_processes_share(kind: type) -> None:
    """Send handles through queues of processes as torch sends its tensors, by sharing the memory."""
    from multiprocessing.reduction import ForkingPickler

    from torch.multiprocessing.reductions import reduce_tensor

    ForkingPickler.register(kind, lambda tensor: reduce_tensor(_real(tensor)))


def _spilled_error(tensor: Any, what: str) -> SpillError:
    record = record_of(tensor)
    name = "a tensor" if record is None else record.name
    return SpillError(f"{name} {what}: bring it back before, with %titan spill --back")


def _settled(tensor: Any) -> bool:
    with lock:
        record = record_of(tensor)  # another thread may have been faster
        if record is None:
            return True
        record.load()
        return record.end()


def _given_back(record: Record) -> bool:
    """Ask those of titan who can do without memory to give some back, and say whether any did."""
    return bool(ask_yielders(record.size_bytes, _device_key(record.device)))


def _device_key(device: Any) -> str:
    """Return what reports call a device; the host has no device of torch's but is one to them."""
    found = accelerator()
    if found is not None and device.type == found.kind:
        return found.keys()[device.index]
    return HostPeak().key


def _real(tensor: Any) -> Any:
    """Bring a tensor back; return the object that has its memory, itself unless C++ code holds it."""
    restore(tensor)
    record = record_of(tensor)
    return tensor if record is None else record.kept


def _on_real_tensors(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    handles = {}

    def real(value: Any) -> Any:
        if not is_handle(value):
            return value
        found = _real(value)
        handles[id(found)] = value
        return found

    result = func(*_mapped(real, args), **_mapped(real, kwargs))
    # What works in place returns what it was given, and that was the handle.
    return _mapped(lambda value: handles.get(id(value), value), result)


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    kind = type(value)
    if kind is list or kind is tuple:
        return kind(_mapped(change, one) for one in value)
    if kind is dict:
        return {key: _mapped(change, one) for key, one in value.items()}
    return change(value)


def _handles_in(value: Any) -> Iterator[Any]:
    kind = type(value)
    if is_handle(value):
        yield value
    elif issubclass(kind, (list, tuple)):
        for one in kind.__iter__(value):
            yield from _handles_in(one)
    elif issubclass(kind, dict):
        for one in dict.values(value):
            yield from _handles_in(one)
    elif kind is slice:
        yield from _handles_in((value.start, value.stop, value.step))
