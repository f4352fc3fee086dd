"""Where tensors of the chat memory live, and under which rules torch computes on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from titan_nb.errors import SettingsError

if TYPE_CHECKING:
    import torch

__all__ = ["own_rules", "resolve"]


def resolve(device: Any) -> torch.device:
    """Return ``device`` with its index, after a look whether float64 tensors can be made there.

    Args:
        device: What `torch.device` takes, such as ``"cpu"`` or ``"cuda:0"``.

    Raises:
        SettingsError: If torch does not know the device, or cannot compute on it here.
    """
    import torch

    try:
        found = torch.empty(0, dtype=torch.float64, device=torch.device(device)).device
    # Builds without CUDA answer with an AssertionError, Apple's GPU with a TypeError.
    except (RuntimeError, AssertionError, TypeError) as error:
        raise SettingsError(f"device {device!r} cannot be used here ({error}); use 'cpu'") from error
    if found.type == "meta":
        raise SettingsError("device 'meta' holds no numbers; use 'cpu' or a GPU such as 'cuda:0'")
    return found


@contextlib.contextmanager
def own_rules(device: torch.device) -> Iterator[None]:
    """Compute without autograd, inference mode and autocast, whatever the calling cell has turned on.

    Rows made in the user's inference mode could not be appended to outside of it, and autocast would
    round the scores to half precision.
    """
    import torch

    with (
        torch.inference_mode(mode=False),
        torch.no_grad(),
        torch.autocast(device_type=device.type, enabled=False),
    ):
        yield
