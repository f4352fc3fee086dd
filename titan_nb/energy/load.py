"""Work for a GPU, so that its counter has something to count."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from titan_nb.errors import SensorError

__all__ = ["Beside", "Busy", "Load", "TorchLoad"]

T = TypeVar("T")

_PRODUCT_SECONDS = 0.5e-3
"""A matrix product lasts at least this long, so that starting it takes none of the device's time."""

_LARGEST = 8192
_CHUNK_SECONDS = 0.02
_AT_ONCE_SECONDS = 0.2
"""The driver's queue holds about a thousand products, so more than this is handed over in chunks."""

_QUEUED_CHUNKS = 2


class Busy(NamedTuple):
    """When a device worked, in seconds on ``time.perf_counter``."""

    begin: float
    end: float


class Load(Protocol):
    """Work for one device that draws the same power each time.

    Attributes:
        name: What it is.
    """

    name: str

    def open(self) -> str | None:
        """Get the device ready to work; return its UUID as NVML spells it, or None where unknown.

        Raises:
            SensorError: If it cannot work.
        """
        ...

    def run(self, seconds: float) -> Busy:
        """Let the device work for about ``seconds``, wait for the end, and return when it worked."""
        ...


class Beside(Generic[T]):
    """A job in a thread of its own, while this one looks at the counter.

    The thread does not keep the process alive when the program is stopped.
    """

    def __init__(self, job: Callable[[], T]) -> None:
        self._job = job
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="calibration-load", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result.append(self._job())
        except BaseException as error:
            self._error = error

    @property
    def running(self) -> bool:
        """Whether the job is not over yet."""
        return self._thread.is_alive()

    def result(self) -> T:
        """Wait for the end; return what the job returned, or raise what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result[0]


class TorchLoad:
    """Products of two half-precision matrices by torch, timed on the device by CUDA events.

    Args:
        index: The device in CUDA's own order.
    """

    def __init__(self, index: int = 0) -> None:
        self.name = "torch"
        self._index = index
        self._torch: Any = None
        self._matrices: tuple[Any, Any, Any] | None = None
        self._product_seconds = 0.0

    def open(self) -> str | None:
        """Start CUDA, and choose matrices whose product lasts half a millisecond or more.

        Raises:
            SensorError: If torch cannot use the device.
        """
        try:
            import torch
        except ImportError as error:
            raise SensorError("the load needs PyTorch, which is missing", "pip install torch") from error
        if not torch.cuda.is_available() or torch.cuda.device_count() <= self._index:
            why = f"PyTorch {torch.__version__} sees no CUDA device {self._index}"
            raise SensorError(why, "install a build of PyTorch for CUDA, and see CUDA_VISIBLE_DEVICES")
        self._torch = torch
        torch.cuda.set_device(self._index)
        size = 512
        while self._product_seconds < _PRODUCT_SECONDS and size < _LARGEST:
            size *= 2
            make = {"dtype": torch.float16, "device": "cuda"}
            self._matrices = (
                *(torch.randn(size, size, **make) for _ in range(2)),
                torch.empty(size, size, **make),
            )
            for repeat in (10, 50):  # The first ones choose the kernel and raise the clocks.
                begin = self._mark()
                self._multiply(repeat)
                end = self._mark()
                end.synchronize()
                self._product_seconds = begin.elapsed_time(end) * 1e-3 / repeat
        self.name = f"torch {torch.__version__}, products of {size} x {size} float16 matrices"
        uuid = getattr(torch.cuda.get_device_properties(self._index), "uuid", None)
        return None if uuid is None else f"GPU-{str(uuid).removeprefix('GPU-')}"

    def run(self, seconds: float) -> Busy:
        """Multiply for about ``seconds``; a short time is handed to the device in one go."""
        begin = self._mark()
        begun = time.perf_counter()  # The device was idle, so it begins at once.
        if seconds <= _AT_ONCE_SECONDS:
            self._multiply(max(1, round(seconds / self._product_seconds)))
        else:
            queued: collections.deque[Any] = collections.deque()
            while time.perf_counter() - begun < seconds:
                self._multiply(max(1, round(_CHUNK_SECONDS / self._product_seconds)))
                queued.append(self._mark())
                if len(queued) > _QUEUED_CHUNKS:
                    queued.popleft().synchronize()
        end = self._mark()
        end.synchronize()
        return Busy(begun, begun + begin.elapsed_time(end) * 1e-3)

    def _multiply(self, times: int) -> None:
        if self._matrices is None:
            raise SensorError("the load was not opened", "call open() first")
        left, right, product = self._matrices
        for _ in range(times):
            self._torch.mm(left, right, out=product)

    def _mark(self) -> Any:
        # Blocking: waiting for it leaves the processor to the looks at the counter.
        event = self._torch.cuda.Event(enable_timing=True, blocking=True)
        event.record()
        return event
