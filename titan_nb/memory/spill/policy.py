"""Spilling without being told which: what has not been used for some cells, once memory is short."""

from __future__ import annotations

from typing import Any

from titan_nb.errors import SettingsError
from titan_nb.memory.accelerator import accelerator
from titan_nb.memory.spill.handle import is_handle
from titan_nb.memory.spill.mentions import mentioned
from titan_nb.memory.spill.spill import Spilled, spill_named
from titan_nb.memory.spill.tensors import tensors_in

__all__ = ["SpillPolicy"]

_NOT_VARIABLES = frozenset({"In", "Out"})


class SpillPolicy:
    """Moves tensors out of the way at the start of a cell that does not mention them.

    Nothing moves while memory is plentiful. A guess that was wrong costs time and no more: the tensor comes
    back when it is used.

    Args:
        idle_cells: How many cells in a row must have left a variable unmentioned.
        min_bytes: Smaller tensors stay.
        pressure: The part of a device's memory that torch must have reserved, from 0 to 1.
        disk: Whether to disk, and then also from host memory, once that part of it is in use.

    Attributes:
        idle_cells: How many cells in a row must have left a variable unmentioned.

    Raises:
        SettingsError: If a value cannot be used.
    """

    def __init__(
        self, idle_cells: int = 3, *, min_bytes: int = 1 << 20, pressure: float = 0.8, disk: bool = False
    ) -> None:
        if idle_cells < 1:
            raise SettingsError(f"idle_cells is {idle_cells!r}: give a number of cells from 1")
        if not 0 <= pressure <= 1:
            raise SettingsError(f"pressure is {pressure!r}: give a part of the memory from 0 to 1")
        self.idle_cells = idle_cells
        self._min_bytes = min_bytes
        self._pressure = pressure
        self._disk = disk
        self._last_used: dict[str, int] = {}

    def before_cell(self, source: str, namespace: dict[str, Any], cell_number: int) -> Spilled | None:
        """Spill what the coming cell does not seem to need, where memory is short.

        Args:
            source: The cell's text.
            namespace: The user's variables.
            cell_number: A number that rises with each cell.

        Returns:
            What was moved and what was not; None if memory is not short.
        """
        used = mentioned(source, namespace)
        names = [name for name in list(namespace) if not name.startswith("_") and name not in _NOT_VARIABLES]
        self._last_used = {
            name: cell_number if name in used else self._last_used.get(name, cell_number) for name in names
        }
        devices = self._short_devices()
        if not devices:
            return None
        idle = [name for name in names if cell_number - self._last_used[name] >= self.idle_cells]
        needed = {
            id(one) for _, one in tensors_in((name, namespace[name]) for name in names if name not in idle)
        }
        idle_tensors = tensors_in((name, namespace[name]) for name in idle)
        found = [
            (path, tensor)
            for path, tensor in idle_tensors
            if id(tensor) not in needed and not is_handle(tensor) and _device(tensor) in devices
        ]
        return spill_named(found, disk=self._disk, min_bytes=self._min_bytes)

    def _short_devices(self) -> set[str]:
        short = set()
        found = accelerator()
        if found is not None:
            for index in found.keys():  # noqa: SIM118 - a method that lists the devices
                sizes = found.free_and_total_bytes(index)
                if sizes is not None and found.reserved_bytes(index) >= self._pressure * sizes[1]:
                    short.add(f"{found.kind}:{index}")
        if self._disk and _host_used() >= self._pressure:
            short.add("cpu")
        return short


def _host_used() -> float:
    import psutil

    memory = psutil.virtual_memory()
    return float(1 - memory.available / memory.total)


def _device(tensor: Any) -> str:
    import torch

    # A subclass may answer with code of its own; the gate refuses it later.
    with torch._C.DisableTorchFunction():
        return str(tensor.device)
