"""A limit on what this process may hold on each GPU."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable

from titan_nb.errors import SettingsError
from titan_nb.memory.accelerator import Accelerator, accelerator
from titan_nb.memory.ceiling import Ceiling, Hold
from titan_nb.memory.peaks import Every
from titan_nb.memory.reclaim import ask_yielders
from titan_nb.memory.sampled import PERIOD_SECONDS
from titan_nb.units import byte_size

__all__ = ["GpuLimit"]

_FRACTION = "torch memory fraction"


class GpuLimit:
    """While it is open, torch's allocator holds at most so many bytes on each GPU, its cache included.

    When the limit is reached the allocator first gives its unused blocks back, and only then raises
    `torch.OutOfMemoryError`. What it does not hand out is not counted: the CUDA context, NCCL, other
    libraries and other processes. A GPU that is first used later is limited from the next look at it on,
    if ``every`` is given.

    Args:
        limit_bytes: The most that this process may hold on each GPU, in total.
        every: Runs the look for GPUs that came into use; see `titan_nb.memory.peaks.Every`.

    Raises:
        SettingsError: If the live tensors on a GPU are larger already; then nothing is limited.
    """

    def __init__(
        self,
        limit_bytes: int,
        every: Every | None = None,
    ) -> None:
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._open = True
        self._held: dict[str, tuple[Ceiling, Hold]] = {}
        self._refused: dict[str, str] = {}
        self._cancel: Callable[[], None] | None = None
        self._check()
        try:
            self._spread()
            if every is not None:
                with contextlib.suppress(Exception):  # Only a GPU that comes into use later goes without.
                    self._cancel = every(PERIOD_SECONDS, self._spread)
        except BaseException:
            self.close()
            raise

    @property
    def in_force(self) -> bool:
        """Whether any GPU is limited, or was until the end."""
        return bool(self._held)

    @property
    def mechanism(self) -> str:
        """How the limit is kept and where, or why it is not."""
        size = byte_size(self.limit_bytes)
        parts = [f"{_FRACTION} on {', '.join(self._held)}"] if self._held else []
        parts += [f"none on {device}: {reason}" for device, reason in self._refused.items()]
        return f"GPU limit {size}: {'; '.join(parts) or 'not in force, no GPU is in use'}"

    def close(self) -> str | None:
        """End the limit; return what could not be put back, or None. A second time does nothing."""
        with self._lock:
            was_open, self._open = self._open, False
        if not was_open:
            return None
        if self._cancel is not None:
            with contextlib.suppress(Exception):  # The job does nothing any more.
                self._cancel()
        failed = [_release(device, *held) for device, held in self._held.items()]
        return "; ".join(filter(None, failed)) or None

    def _check(self) -> None:
        """Refuse a limit that would stop the cell at its first tensor."""
        for gpu, index, device in _devices():
            try:
                held_bytes = gpu.allocated_bytes(index)
                if held_bytes > self.limit_bytes and ask_yielders(
                    held_bytes - self.limit_bytes, gpu.keys()[index]
                ):
                    held_bytes = gpu.allocated_bytes(index)
            except RuntimeError:
                continue  # Nobody counts there; whether it can be limited is seen next.
            if held_bytes > self.limit_bytes:
                raise SettingsError(
                    f"a GPU limit of {byte_size(self.limit_bytes)} is below the {byte_size(held_bytes)} that "
                    f"tensors hold on {device} already: give more, or free memory first"
                )

    def _spread(self) -> None:
        """Limit each GPU that is in use and not limited yet; called from any thread."""
        with self._lock:
            for gpu, index, device in _devices() if self._open else ():
                if device not in self._held and device not in self._refused:
                    try:
                        self._lower(gpu, index, device)
                    except Exception as error:  # Whatever a driver raises, the cell must go on.
                        self._refused[device] = f"{type(error).__name__}: {error}"

    def _lower(self, gpu: Accelerator, index: int, device: str) -> None:
        if gpu.fraction(index) is None:
            self._refused[device] = f"the {gpu.source} does not tell its limit, so it could not be put back"
            return
        known = gpu.free_and_total_bytes(index)
        if known is None:
            return  # Not in use yet.
        # Half a byte more, because the allocator rounds down.
        fraction = min(1.0, (self.limit_bytes + 0.5) / known[1])
        ceiling = _ceiling_of(os.getpid(), gpu, index)
        self._held[device] = ceiling, ceiling.lower(fraction)


def _devices() -> list[tuple[Accelerator, int, str]]:
    """Return each GPU with its index and torch's name for it; none before the user has started one."""
    gpu = accelerator()
    return [] if gpu is None else [(gpu, index, f"{gpu.kind}:{index}") for index in tuple(gpu.keys())]


def _release(device: str, ceiling: Ceiling, hold: Hold) -> str | None:
    try:
        ceiling.release(hold)
    except Exception as error:  # As after an error from which CUDA cannot recover.
        return f"the memory fraction of {device} could not be put back ({type(error).__name__}: {error})"
    return None


@functools.lru_cache(maxsize=64)
def _ceiling_of(pid: int, gpu: Accelerator, index: int) -> Ceiling:
    """Return the one ceiling of a device; ``pid`` gives a forked child its own."""
    return Ceiling(
        lambda: gpu.fraction(index) or 0.0,
        lambda fraction: gpu.set_fraction(fraction, index),
    )
