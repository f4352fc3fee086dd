"""Blocks of memory that tensors, arrays and buffers share, each counted once."""

from __future__ import annotations

import array
import contextlib
import mmap
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from titan_nb.host import process_id
from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.owners.slots import class_name, inherits

__all__ = ["BUFFERS", "LEAST_BUFFER_BYTES", "TEXTS", "Storage", "Storages", "quiet"]

LEAST_BUFFER_BYTES = 1 << 16
"""Text and bytes below this are not looked for: a notebook has a million of them, and they hold little."""

_MAPPED = ("cuda", "xpu")
"""Kinds of GPUs whose memory the process sees at addresses, as it sees its own."""

TEXTS = (str, bytes)
BUFFERS = (*TEXTS, bytearray, array.array, mmap.mmap)
"""Classes whose objects are blocks of memory of their own."""


@dataclass(slots=True, eq=False)
class Storage:
    """One block of memory.

    Attributes:
        device: The device key.
        size_bytes: Its size.
        address: Where it begins; 0 when unknown.
        anchor: The object whose life is that of the block.
        holders: Identities of the objects that use it, the first found first.
        partial: Identities of those that show only a part of it.
        is_torchs: Whether the anchor is one of torch's storages.
    """

    device: str
    size_bytes: int
    address: int
    anchor: Any
    holders: list[int] = field(default_factory=list)
    partial: set[int] = field(default_factory=set)
    is_torchs: bool = False


class Storages:
    """The blocks found in one search.

    Attributes:
        unknown: How many objects of each class would not say what they hold.
        torch: The library, if it has been imported.
        tensor: The class of all its tensors; None without it.
        ndarray: NumPy's class of arrays; None without it.
    """

    def __init__(self) -> None:
        self.unknown: dict[str, int] = {}
        self._found: dict[tuple[str, int], Storage] = {}
        self._ram = f"ram:{process_id()}"
        gpu = accelerator()
        self._gpu_keys = {} if gpu is None else {(gpu.kind, index): key for index, key in gpu.keys().items()}
        self._mapped = {self._ram} | {key for (kind, _), key in self._gpu_keys.items() if kind in _MAPPED}
        # Each is missing while another thread is still importing its library.
        self.torch: Any = sys.modules.get("torch")
        self.tensor: Any = getattr(getattr(self.torch, "_C", None), "TensorBase", None)
        self.ndarray: Any = getattr(sys.modules.get("numpy"), "ndarray", None)

    def __iter__(self) -> Iterator[Storage]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def is_new(self, tensor: Any, least_bytes: int) -> bool:
        """Return whether the storage of a tensor has not been found, and is that large or has a graph."""
        try:
            storage = self.tensor.untyped_storage(tensor)
            if storage.nbytes() < least_bytes and self.tensor.grad_fn.__get__(tensor) is None:
                return False
            return ("tensor", storage._cdata) not in self._found and _address(self.torch, tensor) != 0
        except Exception:
            return False  # nothing is to be had from it

    def add_tensor(self, tensor: Any) -> bool:
        """Add the storage of a tensor; return False if it has none, as a sparse one."""
        try:
            # The wrapper is made anew for each view, and dies at once.
            storage = self.tensor.untyped_storage(tensor)
            known = self._storage(storage, tensor)
        except NotImplementedError:
            return False
        except Exception:
            self.refuse(tensor)
            return True
        known.holders.append(id(tensor))
        if self._shown_bytes(tensor, known.size_bytes) < known.size_bytes:
            known.partial.add(id(tensor))
        return True

    def add_storage(self, storage: Any) -> None:
        """Add a storage that is held as such."""
        try:
            self._storage(storage, None).holders.append(id(storage))
        except Exception:
            self.refuse(storage)

    def add_array(self, shown: Any) -> Any:
        """Add the memory of a NumPy array; where it belongs to an object that counts itself, return that."""
        base_of, size_of = self.ndarray.base.__get__, self.ndarray.nbytes.__get__
        owner = shown
        while (base := base_of(owner)) is not None and inherits(type(base), self.ndarray):
            owner = base
        if base is not None and self._counts_itself(type(base)):
            return base
        key = ("array", id(owner))
        known = self._found.get(key)
        if known is None:
            address = self.ndarray.__array_interface__.__get__(owner)["data"][0]
            known = self._found[key] = Storage(self._ram, size_of(owner), address, owner)
        known.holders.append(id(shown))
        if size_of(shown) < known.size_bytes:
            known.partial.add(id(shown))
        return None

    def add_buffer(self, buffer: Any) -> None:
        """Add an object of exactly one of `BUFFERS`, if it is large enough."""
        try:
            size = len(buffer) if type(buffer) is mmap.mmap else sys.getsizeof(buffer)
        except ValueError:  # a mapping that is closed
            return
        if size >= LEAST_BUFFER_BYTES:
            self._found["buffer", id(buffer)] = Storage(self._ram, size, 0, buffer, [id(buffer)])

    def refuse(self, thing: Any) -> None:
        """Take note that an object would not say what it holds."""
        name = class_name(type(thing))
        self.unknown[name] = self.unknown.get(name, 0) + 1

    def blocks(self) -> list[Storage]:
        """Return the blocks, those inside of another one counted with it; to be called once, at the end.

        `torch.from_numpy` gives a tensor the memory of an array, DLPack that of a tensor; none says so.
        """
        placed = [one for one in self._found.values() if one.address]
        placed.sort(key=lambda one: (one.device, one.address, -one.size_bytes))
        inside: set[int] = set()
        outer: Storage | None = None
        for one in placed:
            if outer is None or not self._is_inside(one, outer):
                outer = one
                continue
            inside.add(id(one))
            outer.holders += one.holders
            outer.partial |= one.partial if one.size_bytes == outer.size_bytes else set(one.holders)
        return [one for one in self._found.values() if one.size_bytes and id(one) not in inside]

    def _is_inside(self, one: Storage, outer: Storage) -> bool:
        """Return whether one block is part of another, which begins no later."""
        if one.device != outer.device:
            return False
        if one.device in self._mapped:
            return one.address + one.size_bytes <= outer.address + outer.size_bytes
        # An address may be a handle there, as of Apple's buffers, and says nothing of the next one.
        return (one.address, one.size_bytes) == (outer.address, outer.size_bytes)

    def clear(self) -> None:
        """Let go of everything."""
        self._found.clear()

    def _storage(self, storage: Any, tensor: Any) -> Storage:
        key = ("tensor", storage._cdata)
        known = self._found.get(key)
        if known is None:
            device, size, address = storage.device, int(storage.nbytes()), 0
            if tensor is not None:
                # Not `data_ptr()`, which copies a storage that is shared until somebody writes to it.
                address = _address(self.torch, tensor)
                size = size if address else 0  # a wrapper around other tensors, or emptied
            if device.type == "meta":
                size = 0
            name = self._ram if device.type == "cpu" else self._gpu_key(device.type, device.index or 0)
            known = self._found[key] = Storage(name, size, max(address, 0), storage, is_torchs=True)
        return known

    def _gpu_key(self, kind: str, index: int) -> str:
        return self._gpu_keys.get((kind, index), f"gpu:{kind}{index}")

    def _shown_bytes(self, tensor: Any, otherwise: int) -> int:
        # A class of the user's own may answer for its size by its own code.
        if type(tensor) is not self.torch.Tensor:
            return otherwise
        try:
            return int(self.tensor.numel(tensor) * self.tensor.element_size(tensor))
        except RuntimeError:  # nested tensors have no such size
            return otherwise

    def _counts_itself(self, cls: type) -> bool:
        if any(cls is one for one in (*BUFFERS, memoryview)):
            return True
        return self.tensor is not None and inherits(cls, self.tensor)


def quiet() -> contextlib.AbstractContextManager[Any]:
    """Ask tensors while no subclass and no mode of torch hears of it."""
    c = getattr(sys.modules.get("torch"), "_C", None)
    return getattr(c, "DisableTorchFunction", contextlib.nullcontext)()


def _address(torch: Any, tensor: Any) -> int:
    """Return where the storage of a tensor begins; -1 when unknown, 0 where there is nothing."""
    read = getattr(torch._C, "_data_address", None)
    return -1 if read is None else int(read(tensor))
