"""What to say when memory is short."""

from __future__ import annotations

from typing import TYPE_CHECKING

from titan_nb.errors import ResourceError

if TYPE_CHECKING:
    import torch

__all__ = ["is_shortage", "resource_error"]


def is_shortage(error: BaseException) -> bool:
    """Say whether ``error`` means that memory was short, on the host or on a GPU."""
    import torch

    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    # torch's CPU allocator and the CUDA driver have no class of their own for this.
    text = str(error)
    known = "DefaultCPUAllocator" in text or "CUDA error: out of memory" in text
    return isinstance(error, RuntimeError) and known


def resource_error(doing: str, requested_bytes: int, device: torch.device) -> ResourceError:
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


def _available_bytes(device: torch.device) -> int | None:
    import psutil
    import torch

    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return None
