"""Which devices ``CUDA_VISIBLE_DEVICES`` leaves visible; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["Visible", "visible_devices"]


class Visible(NamedTuple):
    """One device that CUDA shows.

    Attributes:
        position: Position in the driver's own order.
        mig: Whether only a MIG instance of it is shown.
    """

    position: int
    mig: bool = False


def visible_devices(
    setting: str | None, uuids: Sequence[str], parent_of_mig: Callable[[str], str | None]
) -> tuple[Visible, ...]:
    """Return the devices that CUDA shows, each once.

    As CUDA does, an entry that names no device ends the list, and a device named twice empties it; several
    MIG instances of one device are one entry here.

    Args:
        setting: Value of ``CUDA_VISIBLE_DEVICES``; None when it is not set.
        uuids: UUIDs of all devices, in the driver's order.
        parent_of_mig: Returns the UUID of the device that a MIG instance is part of, or None.
    """
    if setting is None:
        return tuple(Visible(index) for index in range(len(uuids)))
    found: dict[int, Visible] = {}
    for entry in (part.strip() for part in setting.split(",")):
        mig = entry.startswith("MIG-")
        index = _index(entry, uuids, parent_of_mig)
        if index is None:
            break
        if index in found and not (mig and found[index].mig):
            return ()
        found[index] = Visible(index, mig)
    return tuple(found.values())


def _index(entry: str, uuids: Sequence[str], parent_of_mig: Callable[[str], str | None]) -> int | None:
    if entry.isdecimal():
        return int(entry) if int(entry) < len(uuids) else None
    if entry.startswith("MIG-GPU-"):  # the name that drivers before 470 gave: MIG-<UUID of the GPU>/<gi>/<ci>
        prefix: str | None = entry.removeprefix("MIG-").partition("/")[0]
    elif entry.startswith("MIG-"):
        prefix = parent_of_mig(entry)
    else:
        prefix = entry if entry.startswith("GPU-") else None
    matches = [] if prefix is None else [i for i, uuid in enumerate(uuids) if uuid.startswith(prefix)]
    return matches[0] if len(matches) == 1 else None
