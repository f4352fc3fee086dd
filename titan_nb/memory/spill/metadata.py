"""What can be asked about a spilled tensor without bringing it back."""

from __future__ import annotations

import functools
from typing import Any

__all__ = ["metadata"]

_PROPERTIES = (
    "shape",
    "dtype",
    "device",
    "layout",
    "ndim",
    "itemsize",
    "nbytes",
    "requires_grad",
    "is_leaf",
    "grad",
    "grad_fn",
    "is_cpu",
    "is_cuda",
    "is_xpu",
    "is_mps",
    "is_meta",
    "is_sparse",
    "is_sparse_csr",
    "is_quantized",
    "is_nested",
)
_METHODS = (
    "size",
    "stride",
    "dim",
    "ndimension",
    "numel",
    "nelement",
    "storage_offset",
    "element_size",
    "is_contiguous",
    "is_floating_point",
    "is_complex",
    "is_signed",
    "get_device",
    "__len__",
)
_FUNCTIONS = ("numel", "is_floating_point", "is_complex", "is_signed", "get_device")


@functools.lru_cache(maxsize=1)
def metadata() -> frozenset[Any]:
    """Return what torch hands to `__torch_function__` when a tensor is asked what it is."""
    import torch

    tensor = torch.Tensor
    found = [getattr(tensor, name).__get__ for name in _PROPERTIES if hasattr(tensor, name)]
    found += [getattr(tensor, name) for name in _METHODS]
    found += [getattr(torch, name) for name in _FUNCTIONS if hasattr(torch, name)]
    # The placeholder keeps the gradient, so that zero_grad() brings nothing back.
    found += [tensor.grad.__set__, tensor.grad.__delete__]
    return frozenset(found)
