"""torch's automatic mixed precision around a cell."""

from __future__ import annotations

import threading
import warnings
from typing import Any, Literal

from titan_nb.errors import SettingsError
from titan_nb.memory.accelerator import accelerator

__all__ = ["Autocast", "Kind", "enter"]

Kind = Literal["bf16", "fp16"]

_DTYPES = {"bf16": "bfloat16", "fp16": "float16"}


class Autocast:
    """Mixed precision that was entered for one cell; made by `enter`, and always to be left.

    Attributes:
        text: What was entered and where, for the report.
    """

    def __init__(self, torch: Any, context: Any, text: str) -> None:
        self._torch = torch
        self._context = context
        self._thread = threading.get_ident()
        self.text = text
        context.__enter__()

    def leave(self) -> None:
        """Put back what was set before, however the cell left it; a second time does nothing.

        To be called in the thread that entered: to any other it means nothing, and there nothing is done.
        """
        context = self._context
        if context is None or threading.get_ident() != self._thread:
            return
        self._context = None
        # Sets the device's state to what it was at the entry, whatever the cell did to it.
        context.__exit__(None, None, None)
        # Also after a cell that entered once more than it left: the cache then still holds cast weights.
        self._torch.clear_autocast_cache()


def enter(kind: Kind, awaits: bool) -> Autocast:
    """Begin mixed precision in this thread, on the GPU in use or else on the CPU.

    torch is imported if it is not yet; a GPU is not started for it. Random numbers stay as they are.

    Args:
        kind: ``bf16`` or ``fp16``.
        awaits: Whether the cell has a top-level ``await``.

    Raises:
        SettingsError: If the cell awaits, if there is no such kind, or if the device has not got it.
    """
    if kind not in _DTYPES:
        raise SettingsError(f"autocast is {kind!r}: give one of {', '.join(_DTYPES)}")
    if awaits:
        raise SettingsError(
            "autocast cannot be set for a cell that awaits: other tasks would run under it meanwhile; "
            "use `with torch.autocast(...)` around the part without await"
        )
    try:
        import torch
    except ImportError as error:
        raise SettingsError(f"autocast needs torch, which cannot be imported: {error}") from error
    gpu = accelerator()
    device = "cpu" if gpu is None else gpu.kind
    refused = ""
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            context = torch.autocast(device, dtype=getattr(torch, _DTYPES[kind]))
        if not getattr(context, "_enabled", True):
            # torch only warns of a type that the device has not got, and goes on in full precision.
            refused = str(warned[-1].message) if warned else "torch has switched it off"
    except Exception as error:
        refused = str(error) or type(error).__name__
    if refused:
        raise SettingsError(f"autocast to {kind} is not possible on {device}: {' '.join(refused.split())}")
    where = "cpu, as no GPU was in use when the cell began" if gpu is None else device
    return Autocast(torch, context, f"autocast to {kind} on {where}")
