"""NVML started once for all of titan, and what its errors mean."""

from __future__ import annotations

import contextlib
import threading
from typing import Any, ClassVar

from titan_nb.errors import SensorError

__all__ = ["LOST", "NvmlError", "NvmlSession", "text", "trouble"]

LOST = frozenset({"GpuIsLost", "Uninitialized", "Unknown"})
"""Errors after which a device may answer again once NVML has been started anew."""

_OLD_DRIVER = "update the NVIDIA driver"
_REMEDIES = {
    "LibraryNotFound": "install the NVIDIA driver; in a container, start it with GPU access",
    "DriverNotLoaded": "load the NVIDIA driver: sudo modprobe nvidia",
    "LibRmVersionMismatch": "the driver was updated while in use: restart the machine",
    "NoPermission": "ask for read access to /dev/nvidiactl and /dev/nvidia0",
    "GpuIsLost": "restart the machine if it does not come back",
    "ResetRequired": "reset the GPU: sudo nvidia-smi --gpu-reset",
    "FunctionNotFound": _OLD_DRIVER,
    "FunctionNotFoundError": _OLD_DRIVER,
    "ArgumentVersionMismatch": _OLD_DRIVER,
    "AttributeError": "pip install --upgrade nvidia-ml-py",
}


class NvmlError(SensorError):
    """A call to NVML failed.

    Args:
        message: What happened, to which device.
        kind: NVML's name of the error, such as ``NotSupported``; that of the exception's class otherwise.
    """

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message, _REMEDIES.get(kind, ""))
        self.kind = kind


def trouble(what: str, error: Exception) -> NvmlError:
    """Return what went wrong, with its remedy."""
    kind = type(error).__name__.removeprefix("NVMLError_")
    return NvmlError(f"{what}: {error}", kind)


def text(value: bytes | str) -> str:
    """Return what NVML calls a string; old versions of its binding give bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class NvmlSession:
    """NVML, started once in this process however many devices use it, and given back by the last of them.

    NVML counts who started it, so others in this process who use it are not disturbed. `join` returns the
    session, and each that joined leaves once.

    Attributes:
        nvml: The module ``pynvml``, or a stand-in for it.
        generation: How often NVML has been started anew; a handle is good for one generation only.
    """

    _open: ClassVar[dict[int, NvmlSession]] = {}  # by the binding's id
    _lock = threading.Lock()

    def __init__(self, nvml: Any) -> None:
        self.nvml = nvml
        self.generation = 0
        self._users = 0
        self._started = False

    @classmethod
    def join(cls, nvml: Any) -> NvmlSession:
        """Return the session of ``nvml``, started.

        Raises:
            SensorError: If NVML cannot be started.
        """
        with cls._lock:
            session = cls._open.setdefault(id(nvml), cls(nvml))
            session._users += 1
        try:
            session._start()
        except BaseException:
            session.leave()
            raise
        return session

    def hold(self) -> None:
        """Join once more."""
        with self._lock:
            self._users += 1

    def leave(self) -> None:
        """Give NVML back if nobody else uses it."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
            if last:
                self._open.pop(id(self.nvml), None)
        if last:
            self._stop()

    def restart(self) -> None:
        """Start NVML anew, as is needed after a device or the driver was lost.

        Raises:
            SensorError: If NVML cannot be started.
        """
        self._stop()
        self._start()
        self.generation += 1

    def _start(self) -> None:
        if self._started:
            return
        try:
            self.nvml.nvmlInit()
        except Exception as error:
            raise trouble("NVML cannot be started", error) from error
        self._started = True

    def _stop(self) -> None:
        if not self._started:
            return
        self._started = False
        with contextlib.suppress(Exception):  # One that is not started any more is what was wanted.
            self.nvml.nvmlShutdown()
