"""The worker threads of numerical libraries, started before memory is limited."""

from __future__ import annotations

import contextlib
import sys
import threading

__all__ = ["warm_openmp"]

_GRAIN = 32_768
"""Elements that torch gives each thread at least (at::internal::GRAIN_SIZE)."""

_warmed = threading.local()


def warm_openmp() -> None:
    """Start the OpenMP threads that torch and NumPy would start at their first large operation.

    OpenMP keeps one set of threads for each thread that uses it, and ends the process if it cannot start
    one. A library that is imported later starts its own then. The random numbers stay as they are.
    """
    for name, start in (("torch", _start_torch), ("numpy", _start_numpy)):
        module = sys.modules.get(name)
        if module is not None and not getattr(_warmed, name, False):
            # Another thread may be in the middle of its import, or a mode of the user's may refuse.
            with contextlib.suppress(Exception):
                start(module)
                setattr(_warmed, name, True)


def _start_torch(torch: object) -> None:
    torch.empty(  # type: ignore[attr-defined]
        _GRAIN * torch.get_num_threads(),  # type: ignore[attr-defined]
        dtype=torch.uint8,  # type: ignore[attr-defined]
        device="cpu",
    ).fill_(0)


def _start_numpy(numpy: object) -> None:
    square = numpy.ones((256, 256))  # type: ignore[attr-defined]
    square @ square
