"""What an allocator has handed out beside what names hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from titan_nb.memory.accelerator import Accelerator

__all__ = ["without_name"]

# torch's own default, and what NVIDIA recommends on Hopper:
# https://docs.nvidia.com/cuda/cublas/#cublassetworkspace
_CUBLAS_WORKSPACES = {(4096 * 2 + 16 * 8) << 10, 32 << 20}


def without_name(
    gpu: Accelerator, index: int, named: Mapping[int, int], allocated_bytes: int
) -> dict[str, int]:
    """Return the bytes of one device that no name holds, by what is known of them; "" for nothing.

    Args:
        gpu: The accelerator.
        index: The device.
        named: Sizes of the blocks that names hold, by address.
        allocated_bytes: What the allocator has handed out.
    """
    rest = allocated_bytes - sum(named.values())
    found: dict[str, int] = {}
    for size, what in _unnamed_parts(gpu, index, named):
        if size <= rest:
            found[what] = found.get(what, 0) + size
            rest -= size
    if rest > 0:
        found[""] = found.get("", 0) + rest
    return found


def _unnamed_parts(gpu: Accelerator, index: int, named: Mapping[int, int]) -> Iterator[tuple[int, str]]:
    for segment in _segments(gpu):
        if segment.get("device") != index:
            continue
        private = tuple(segment.get("segment_pool_id", (0, 0))) != (0, 0)
        address = segment.get("address", 0)
        for block in segment.get("blocks", ()):
            address = block.get("address", address)
            size = int(block["size"])
            if block.get("state") == "active_allocated":
                if address in named:
                    if size > named[address]:
                        yield size - named[address], "rounding to whole blocks"
                else:
                    yield size, _origin(block, private)
            address += size


def _segments(gpu: Accelerator) -> list[Any]:
    ask = getattr(getattr(sys.modules.get("torch"), gpu.kind, None), "memory_snapshot", None)
    if ask is None:
        return []
    try:
        try:
            segments = ask(include_traces=False)
        except TypeError:  # an older torch, which always returns them
            segments = ask()
    except Exception:
        return []
    return segments if isinstance(segments, list) else []


def _origin(block: Mapping[str, Any], private: bool) -> str:
    """Return what is known of a block that no name holds."""
    for frame in block.get("frames", ()):  # where the user records the history of the allocator
        if str(frame.get("filename", "")).endswith(".py"):
            return f"allocated in {frame['filename']}:{frame['line']}"
    if private:
        return "private pool, as of a CUDA graph"
    if block.get("requested_size", block["size"]) in _CUBLAS_WORKSPACES:
        return "as large as a cuBLAS workspace"
    return ""
