"""The answer to the question which name holds what."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from titan_nb.memory.owners.roots import Kind
from titan_nb.units import byte_size

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DeviceTotal", "Owners", "Row"]


@dataclass(frozen=True, slots=True)
class Row:
    """One name with the memory it holds on one device.

    Attributes:
        name: As the user would write it.
        kind: How the memory is held.
        device: The device key.
        size_bytes: How much the name holds.
        frees_bytes: How much of that nobody else holds, so that it is free once the name is deleted.
        shared_with: The names that hold some of the rest.
    """

    name: str
    kind: Kind
    device: str
    size_bytes: int
    frees_bytes: int
    shared_with: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceTotal:
    """The memory of one device.

    Attributes:
        named_bytes: What the names hold together, each block counted once.
        allocated_bytes: What the allocator has handed out; None on the host, where there are many allocators.
    """

    named_bytes: int
    allocated_bytes: int | None = None

    @property
    def named_fraction(self) -> float | None:
        """The part of the allocated bytes that has a name; None when unknown."""
        if self.allocated_bytes is None:
            return None
        return min(self.named_bytes / self.allocated_bytes, 1.0) if self.allocated_bytes else 1.0


@dataclass(frozen=True, slots=True, repr=False)
class Owners:
    """Which name holds what.

    Attributes:
        names: What can be deleted, such as ``model`` or ``Out[7]``, by kind and device, the largest first.
            What two names share stands under both.
        rows: The blocks of memory, each under one name such as ``model.encoder.weight``, the largest first;
            their sizes add up to the totals. What no name explains has rows of its own.
        devices: The totals by device key.
        stopped_at: What was left out, and why; empty as a rule.
    """

    names: tuple[Row, ...]
    rows: tuple[Row, ...]
    devices: dict[str, DeviceTotal]
    stopped_at: str = ""

    def __repr__(self) -> str:
        # The rows may be thousands: `names` and `to_frame` show them to who asks.
        sizes = ", ".join(f"{key} {byte_size(total.named_bytes)}" for key, total in self.devices.items())
        return f"<Owners: {len(self.names)} names; {sizes or 'nothing held'}>"

    @property
    def named_fraction(self) -> float | None:
        """The part of all GPUs' allocated bytes that has a name; None where no GPU is in use."""
        known = [total for total in self.devices.values() if total.allocated_bytes is not None]
        if not known:
            return None
        sums = sum(one.named_bytes for one in known), sum(one.allocated_bytes or 0 for one in known)
        return DeviceTotal(*sums).named_fraction

    def to_frame(self) -> pd.DataFrame:
        """Return the rows as a table."""
        import pandas as pd

        table: pd.DataFrame = pd.DataFrame([asdict(row) for row in self.rows], columns=list(Row.__slots__))
        return table

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, ready for JSON."""
        return {
            "names": [_plain(row) for row in self.names],
            "rows": [_plain(row) for row in self.rows],
            "devices": {key: asdict(total) for key, total in self.devices.items()},
            "stopped_at": self.stopped_at,
        }


def _plain(row: Row) -> dict[str, Any]:
    return {**asdict(row), "shared_with": list(row.shared_with)}
