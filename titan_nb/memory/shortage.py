"""Errors that mean that memory was short, and errors after which a GPU cannot be used any more."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, cast

from titan_nb.errors import ResourceError
from titan_nb.memory.failures import exceptions_in

if TYPE_CHECKING:
    import torch

__all__ = [
    "find_shortage",
    "is_shortage",
    "message_of",
    "of_the_host",
    "requested_bytes",
    "resource_error",
    "sticky",
]

# Of a plain RuntimeError: torch's CPU and MPS allocators, the drivers, and the libraries of NVIDIA have no
# class of their own for this.
_SHORTAGE = re.compile(
    r"DefaultCPUAllocator"
    r"|\b(?:CUDA|HIP|XPU|MPS backend) out of memory"
    r"|\b(?:CUDA|HIP) error: out of memory"
    r"|\bCU[A-Z]+_(?:STATUS_)?ALLOC(?:ATION)?_FAILED\b"
)
_REQUEST = re.compile(
    r"(?:tried to|unable to) allocate (\d+(?:\.\d+)?) ?(bytes|[KMGTPE]i?B)\b", re.IGNORECASE
)
_POWERS = "BKMGTPE"

# What the CUDA runtime says of errors that leave "the process in an inconsistent state"
# (https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html, cudaError_t).
_STICKY = {
    "illegal memory access": "a kernel read or wrote outside its memory",
    "device-side assert": "a kernel's own check failed, often an index that is out of range",
    "unspecified launch failure": "a kernel crashed",
    "launch timed out": "a kernel ran longer than the driver allows",
    "illegal instruction": "a kernel met an instruction that the GPU does not know",
    "misaligned address": "a kernel used an address that is not aligned",
    "invalid address space": "a kernel used an address of the wrong kind of memory",
    "invalid program counter": "a kernel jumped outside its program",
    "hardware stack error": "the stack of a kernel is broken or too deep",
    "uncorrectable ECC error": "the GPU's memory has a fault that it could not correct",
    "uncorrectable NVLink error": "the link between the GPUs has a fault that it could not correct",
}
_DRIVER_ERROR = re.compile(r"\b([A-Za-z]+) error: ([^\n]*)")


def is_shortage(error: BaseException) -> bool:
    """Say whether ``error`` itself means that memory was short, on the host or on a GPU.

    An error that was raised because of one, or a group that holds one, is another question: `find_shortage`.
    """
    # By the real class: `isinstance` would also run a `__class__` of the user's own.
    kind = type(error)
    if issubclass(kind, (MemoryError, ResourceError)):
        return True
    torch = sys.modules.get("torch")
    if torch is None or not issubclass(kind, RuntimeError):
        return False
    return issubclass(kind, _out_of_memory(torch)) or _SHORTAGE.search(message_of(error)) is not None


def find_shortage(error: BaseException) -> BaseException | None:
    """Return the first shortage among ``error``, what it was raised from or during, and what it groups."""
    return next((one for one in exceptions_in([error]) if is_shortage(one)), None)


def requested_bytes(error: BaseException) -> int | None:
    """Return how many bytes could not be had, from the first shortage in ``error`` that says so; else None.

    Most messages give three digits only, so this is a size to show and no size to count with.
    """
    for one in exceptions_in([error]):
        if not is_shortage(one):
            continue
        if issubclass(type(one), ResourceError):
            return cast("ResourceError", one).requested_bytes
        exact = _numpy_request(one)
        if exact is not None:
            return exact
        found = _REQUEST.search(message_of(one))
        if found is not None:
            amount, unit = found.groups()
            return round(float(amount) * (1 << 10 * _POWERS.index(unit[0].upper())))
    return None


def of_the_host(shortage: BaseException) -> bool:
    """Say whether what `find_shortage` found is a shortage of the host's memory, and not of a GPU's."""
    kind = type(shortage)
    if issubclass(kind, ResourceError):
        return cast("ResourceError", shortage).device == "cpu"
    return issubclass(kind, MemoryError) or "DefaultCPUAllocator" in message_of(shortage)


def sticky(error: BaseException) -> str | None:
    """Return one line if ``error`` leaves the GPU unusable until the kernel is restarted; None as a rule."""
    if "torch" not in sys.modules:
        return None
    for one in exceptions_in([error]):
        if not issubclass(type(one), RuntimeError):
            continue
        found = _DRIVER_ERROR.search(message_of(one))
        if found is None:
            continue
        driver, text = found.groups()
        for known, reason in _STICKY.items():
            if known in text:
                return (
                    f"restart needed: {reason} ({driver} error: {text.strip()}); "
                    "until the kernel is restarted every GPU call fails"
                )
    return None


def message_of(error: BaseException) -> str:
    """Return the text that ``error`` was made with, without running any code of its class."""
    arguments: Any = BaseException.args.__get__(error)  # type: ignore[attr-defined]
    return next((one for one in arguments if type(one) is str), "")


def resource_error(doing: str, requested_bytes: int, device: torch.device | str) -> ResourceError:
    """Build the error for work on ``device`` that needed ``requested_bytes`` more than there were.

    Args:
        doing: What was being done, such as ``storing 5 rows of 384 numbers``.
        requested_bytes: What the smallest possible step needed.
        device: Where.
    """
    available = _available_bytes(device)
    there = "how many are available is unknown" if available is None else f"{available:,} are available"
    return ResourceError(
        f"memory is short on {device}: {doing} needs {requested_bytes:,} bytes, {there}; "
        "free memory, use another device, or pass fewer rows at a time",
        requested_bytes=requested_bytes,
        available_bytes=available,
        device=str(device),
    )


def _out_of_memory(torch: Any) -> tuple[type[BaseException], ...]:
    """Return torch's own class for this, which had another name before 2.5."""
    found = getattr(torch, "OutOfMemoryError", None) or getattr(
        getattr(torch, "cuda", None), "OutOfMemoryError", None
    )
    return () if found is None else (found,)


def _numpy_request(error: BaseException) -> int | None:
    """Return the size that NumPy asked for: its error holds a shape and a dtype instead of a text."""
    for name in ("numpy._core._exceptions", "numpy.core._exceptions"):
        known = getattr(sys.modules.get(name), "_ArrayMemoryError", None)
        if known is not None and type(error) is known:
            return int(error._total_size)  # type: ignore[attr-defined]
    return None


def _available_bytes(device: torch.device | str) -> int | None:
    kind = str(device).partition(":")[0]
    if kind == "cpu":
        import psutil

        return int(psutil.virtual_memory().available)
    if kind == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return None
