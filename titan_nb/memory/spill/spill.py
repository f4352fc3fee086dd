"""Moving idle tensors out of the way and back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from titan_nb.memory.spill import gate, holders
from titan_nb.memory.spill.handle import is_handle, placeholder, record_of
from titan_nb.memory.spill.handle import restore as bring_back
from titan_nb.memory.spill.record import Record, lock, records
from titan_nb.memory.spill.store import Copy, DiskCopy, HostCopy, plain_torch
from titan_nb.memory.spill.tensors import tensors_in

__all__ = ["Moved", "Refused", "Spilled", "restore", "spill", "spill_named", "spilled"]


@dataclass(frozen=True, slots=True)
class Moved:
    """A tensor that is spilled, or was brought back.

    Attributes:
        name: Its path, such as ``model.layers.0.weight``.
        size_bytes: What its memory holds.
        device: Where it belongs, such as ``cuda:0``.
        where: Where its bytes are while it is spilled: *host memory* or *disk*.
    """

    name: str
    size_bytes: int
    device: str
    where: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A tensor that stays where it is.

    Attributes:
        name: Its path.
        size_bytes: What its memory holds.
        reason: Why.
    """

    name: str
    size_bytes: int
    reason: str


@dataclass(frozen=True, slots=True)
class Spilled:
    """What a call moved, and what it did not.

    Attributes:
        moved: The tensors that were moved.
        refused: Those that stay where they are.
    """

    moved: tuple[Moved, ...]
    refused: tuple[Refused, ...]

    @property
    def moved_bytes(self) -> int:
        """Sum of what was moved."""
        return sum(one.size_bytes for one in self.moved)


def spill(*things: object, disk: bool = False, names: Sequence[str] = (), min_bytes: int = 1) -> Spilled:
    """Move idle tensors to host memory, or to disk; each comes back by itself when it is used.

    The objects stay the same everywhere: in variables, modules, optimizers and containers. A tensor is moved
    only if nobody else can reach its memory; it is left alone, with a reason, where that is not certain.

    Args:
        things: Tensors, modules, optimizers, or lists, tuples and dicts of them.
        disk: Whether to a file of a private temporary folder, which is removed at the end of the process.
            Tensors in host memory can be moved there too.
        names: What the things are called, in the same order; by default ``tensor 1`` and so on.
        min_bytes: Tensors smaller than that are passed over.

    Many tensors are best given as a list: ``spill(*tensors, disk=True)`` lets the call itself hold each of
    them where Python shows it to nobody, so that they stay.
    """
    named = [(_name(names, index), thing) for index, thing in enumerate(things)]
    return spill_named(named, disk=disk, min_bytes=min_bytes)


def spill_named(named: Sequence[tuple[str, object]], *, disk: bool = False, min_bytes: int = 1) -> Spilled:
    """Move idle tensors as `spill` does, given with what each thing is called."""
    found = [(path, tensor) for path, tensor in tensors_in(named) if not is_handle(tensor)]
    refused: list[Refused] = []
    moved: list[Moved] = []
    begun: list[Record] = []
    with lock:
        try:
            _begin(found, disk, min_bytes, begun, refused)
            _leave_held(begun, refused)
            for record in begun:
                reason = _move(record, disk)
                if reason is None:
                    moved.append(_moved(record))
                else:
                    refused.append(Refused(record.name, record.size_bytes, reason))
        finally:
            for record in begun:
                if record.copy is None and record.tensor is not None:
                    record.end()
    return Spilled(tuple(moved), tuple(refused))


def restore(*things: object) -> tuple[Moved, ...]:
    """Bring spilled tensors back to where they belong; all of them where none are given.

    Raises:
        torch.OutOfMemoryError: If the device is full; what did not fit stays spilled.
        SpillError: If the bytes of a tensor are gone or damaged.
    """
    if things:
        tensors = [tensor for _, tensor in tensors_in(("", thing) for thing in things)]
    else:
        tensors = [record.tensor for record in records()]
    back = []
    for tensor in tensors:
        record = record_of(tensor)
        if record is not None and record.copy is not None:
            described = _moved(record)
            bring_back(tensor)
            back.append(described)
    return tuple(back)


def spilled() -> tuple[Moved, ...]:
    """Return what is spilled now."""
    return tuple(_moved(record) for record in records() if record.copy is not None)


def _begin(
    found: Iterable[tuple[str, Any]], disk: bool, min_bytes: int, begun: list[Record], refused: list[Refused]
) -> None:
    """Turn what may be moved into handles, so that from now on every new use of it waits for us."""
    addresses = _addresses_are_recorded()
    with plain_torch():
        for path, tensor in found:
            reason = gate.refusal(tensor, disk=disk)
            if reason is None and tensor.device.type == "cuda":
                reason = addresses
            size_bytes = _size_bytes(tensor)
            if reason is not None:
                refused.append(Refused(path, size_bytes, reason))
            elif size_bytes >= min_bytes:
                record = Record(tensor, path, placeholder(tensor))
                begun.append(record)
                record.begin()


def _leave_held(begun: list[Record], refused: list[Refused]) -> None:
    """Give up those that something holds which Python cannot show: a thread at work, or C code."""
    if not begun:
        return
    held = holders.held_out_of_sight([record.tensor for record in begun])
    for record in [record for record, is_held in zip(begun, held, strict=True) if is_held]:
        begun.remove(record)
        record.end()
        refused.append(Refused(record.name, record.size_bytes, "another thread or C code is using it"))


def _move(record: Record, disk: bool) -> str | None:
    """Copy one tensor's memory and let it go; return why not, where it cannot be done."""
    tensor = record.tensor
    try:
        with plain_torch():
            _finish_work(record.device)
            storage, version = tensor.untyped_storage(), tensor._version
        copy: Copy = DiskCopy(storage, record.name) if disk else HostCopy(storage)
    except (OSError, MemoryError, RuntimeError) as error:
        return getattr(error, "strerror", None) or str(error).partition("\n")[0]
    del storage
    with plain_torch():
        reason = gate.shared(tensor)
        if reason is None and tensor._version != version:
            reason = "another thread or C code is using it"
    if reason is None:
        record.free(copy)
    return reason


def _addresses_are_recorded() -> str | None:
    """Return why no tensor on a CUDA device may move, if so: a CUDA graph would go on using its old place."""
    import torch

    if torch.cuda.is_initialized() and holders.instances(torch.cuda.CUDAGraph):
        return "a CUDA graph may have recorded its address"
    return None


def _finish_work(device: Any) -> None:
    """Wait until the device has done all that was asked of it, on whatever stream."""
    import torch

    wait = getattr(getattr(torch, device.type, None), "synchronize", None)
    if wait is not None and device.type != "cpu":
        wait(device)


def _size_bytes(tensor: Any) -> int:
    try:
        return int(tensor.untyped_storage().nbytes())
    except RuntimeError:
        return 0  # its class has no memory of its own


def _moved(record: Record) -> Moved:
    where = record.copy.where if record.copy is not None else ""
    return Moved(record.name, record.size_bytes, str(record.device), where)


def _name(names: Sequence[str], index: int) -> str:
    return names[index] if index < len(names) else f"tensor {index + 1}"
