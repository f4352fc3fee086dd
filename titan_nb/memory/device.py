"""The one device that tensors go to unless somebody says otherwise."""

from __future__ import annotations

import functools
import os
from typing import Any

from titan_nb.memory.accelerator import accelerator

__all__ = ["device"]


def device() -> str:
    """Return ``cuda``, ``xpu``, a registered backend's name, ``mps`` or ``cpu``: the first that is here.

    An accelerator that is already in use comes before all others. The choice is made once per process, and
    starts none. Without torch it is ``cpu``.
    """
    return _choose(os.getpid())


@functools.lru_cache(maxsize=1)
def _choose(pid: int) -> str:
    """Choose for this process; ``pid`` lets a forked child choose anew, because it may not use CUDA."""
    try:
        import torch
    except ImportError:
        return "cpu"
    found = accelerator()
    if found is not None:
        return found.kind
    registered = torch._C._get_privateuse1_backend_name()
    for kind in ("cuda", "xpu", registered, "mps"):
        module = vars(torch).get(kind)
        if module is not None and _is_here(module):
            return kind
    return "cpu"


def _is_here(module: Any) -> bool:
    forked = getattr(module, "_is_in_bad_fork", None)
    try:
        if forked is not None and forked():
            return False
        # For CUDA this asks NVML, where is_available would start the driver and spoil later forks.
        count = getattr(module, "device_count", None)
        return bool(module.is_available() if count is None else count() > 0)
    except Exception:  # Whatever a driver raises: then it cannot be used.
        return False
