"""Which tensors may be moved out of the way: those whose memory nobody else can reach."""

from __future__ import annotations

import functools
import sys
import weakref
from typing import Any

__all__ = ["refusal", "shared"]

_LAYOUTS = "only ordinary dense tensors are moved"


def refusal(tensor: Any, *, disk: bool) -> str | None:
    """Return why ``tensor`` stays where it is; None if nothing that can be seen from here speaks against it.

    Call it with torch's function overrides disabled, so that no mode of the user's sees the questions.

    Args:
        tensor: An object whose class is a `torch.Tensor` or inherits from it.
        disk: Whether it would go to disk, where tensors in host memory may go too.
    """
    import torch

    kind = type(tensor)
    if _free_threaded():
        return "this Python has no global lock, which the move relies on"
    if kind is not torch.Tensor and kind is not torch.nn.Parameter:
        return f"it is a {kind.__name__}, a class of its own"
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or torch._is_functional_tensor(tensor):
        return "a transform of torch.func is at work on it"
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        return _LAYOUTS
    if weakref.getweakrefcount(tensor):
        return "a weak reference watches it, as those of torch.compile do"
    return _place(tensor, disk) or _autograd(tensor) or shared(tensor)


def shared(tensor: Any) -> str | None:
    """Return who else may reach the tensor or its memory, by what torch counts; None if nobody."""
    import torch

    idle = _idle_counts()
    if idle is None:
        return "this version of torch cannot say whether a tensor is in use"
    if tensor._use_count() > idle[0]:
        return "a view, autograd or C++ code holds it"
    storage = tensor.untyped_storage()
    if not storage.resizable() or (tensor.device.type == "cpu" and storage.is_shared()):
        return "its memory belongs to NumPy, a file or another process"
    # Whoever has the storage as a Python object shares the one that we were just given.
    if torch._C._storage_Use_Count(storage._cdata) > idle[1] or sys.getrefcount(storage) > idle[2]:
        return "a view, NumPy or another tensor shares its memory"
    return None


def _free_threaded() -> bool:
    enabled = getattr(sys, "_is_gil_enabled", None)
    return enabled is not None and not enabled()


def _place(tensor: Any, disk: bool) -> str | None:
    where = tensor.device.type
    if where == "meta" or tensor.untyped_storage().nbytes() == 0 or tensor.untyped_storage().data_ptr() == 0:
        return "it holds no memory"
    if where == "mps":
        return "an Apple GPU uses the host's memory"
    if where == "cpu" and not disk:
        return "it is in host memory already (--disk moves it to disk)"
    return None


def _autograd(tensor: Any) -> str | None:
    if tensor.is_inference():
        return "it was made in inference mode"
    if tensor._is_view():
        return "it is a view of another tensor"
    if tensor.grad_fn is not None or tensor.retains_grad:
        return "it is part of an autograd graph"
    if tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None):
        return "it has hooks"
    return None


@functools.lru_cache(maxsize=1)
def _idle_counts() -> tuple[int, int, int] | None:
    """Count what torch counts for a tensor that only one name holds, and for its memory."""
    import torch

    if not all(hasattr(torch._C, name) for name in ("_storage_Use_Count", "_swap_tensor_impl")):
        return None
    tensor = torch.empty(1, device="cpu")
    storage = tensor.untyped_storage()
    return tensor._use_count(), torch._C._storage_Use_Count(storage._cdata), sys.getrefcount(storage)
