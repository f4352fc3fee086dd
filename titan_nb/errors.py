"""The errors that titan raises on purpose.

TitanError
├── SettingsError   a setting has a value that cannot be used       (also a ValueError)
├── SensorError     a device could not be read; carries the remedy
├── BudgetExceeded  a budget that the user set is spent, so that nothing more is begun
├── ResourceError   memory is short for what one of titan's own functions was asked to do
├── SpillError      a tensor that was moved out of the way cannot be brought back, or not be moved now
└── ChatError       the chat memory was given something it cannot store or find (also a ValueError)

Every message says what happened, to what, and what to do about it. None of them is ever raised
into a user's cell by the tracking itself: they come only from functions that the user called.
"""

from __future__ import annotations

__all__ = [
    "BudgetExceeded",
    "ChatError",
    "ResourceError",
    "SensorError",
    "SettingsError",
    "SpillError",
    "TitanError",
]


class TitanError(Exception):
    """The root of all errors of titan."""


class SettingsError(TitanError, ValueError):
    """A setting has a value that cannot be used."""


class SensorError(TitanError):
    """A device could not be read.

    Args:
        message: What happened, to which device.
        remedy: What the user can do about it; empty when nothing can be done.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message if not remedy else f"{message} ({remedy})")
        self.remedy = remedy


class BudgetExceeded(TitanError):  # noqa: N818 - a state that the user asked for, no fault
    """A budget that the user set is spent, so that nothing more is begun."""


class ResourceError(TitanError):
    """Memory is short for what one of titan's own functions was asked to do.

    Args:
        message: What happened, to what, and what to do.
        requested_bytes: How many bytes the smallest possible step needed, or None when nobody said.
        available_bytes: How many bytes the device had left, or None when that is not known.
        device: The device, such as ``cuda:0`` or ``cpu``.
    """

    def __init__(
        self, message: str, *, requested_bytes: int | None, available_bytes: int | None, device: str
    ) -> None:
        super().__init__(message)
        self.requested_bytes = requested_bytes
        self.available_bytes = available_bytes
        self.device = device


class SpillError(TitanError):
    """A tensor that was moved out of the way cannot be brought back, or memory must not move now."""


class ChatError(TitanError, ValueError):
    """The chat memory was given something it cannot store, or asked for something it does not hold."""
