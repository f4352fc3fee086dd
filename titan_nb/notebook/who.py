"""`%titan who`: which name holds what memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from titan_nb.energy.sensors.nvml_neighbours import Neighbour, neighbours
from titan_nb.memory.owners import Owners, Row, owners
from titan_nb.notebook.reclaim import gpu_names
from titan_nb.notebook.roots import roots_of
from titan_nb.units import byte_size
from titan_nb.views.devices import device_name
from titan_nb.views.grid import grid_bundle

if TYPE_CHECKING:
    from titan_nb.notebook.session import Session

__all__ = ["holders", "who"]

_ROWS = 20
_HEADER = ("name", "kind", "device", "size", "would free", "shared with")
_DRIVER_SECONDS = 1.0
_LEAST_BYTES = 1024
"""What is smaller fills the table and tells nobody anything."""


def who(session: Session, options: Any) -> None:
    """Show which name holds what, the largest first, or put all of it into a DataFrame."""
    found = owners(roots=roots_of(session.shell))
    if options.output is not None:
        session.shell.user_ns[options.output] = found.to_frame()
        return
    names = _device_namer()
    rows = [*found.names, *(row for row in found.rows if row.kind == "no name")]
    rows = sorted((row for row in rows if row.size_bytes >= _LEAST_BYTES), key=lambda row: -row.size_bytes)
    shown = rows[: options.k or _ROWS]
    left = len(rows) - len(shown)
    notes = [f"{left} smaller ones are left out; -k {len(rows)} shows them"] if left else []
    if found.stopped_at:
        notes.append(found.stopped_at)
    if any(key.startswith("gpu:") for key in found.devices):
        notes += _others(session, names)
    texts = [_texts(row, _place(row, found.rows), names(row.device)) for row in shown]
    session.presenter.publish(grid_bundle(_title(found, names), _HEADER, texts, notes))


def holders(shell: Any, *, of_ram: bool = False) -> list[tuple[str, int]]:
    """Return who holds memory, the largest first.

    Args:
        shell: The shell.
        of_ram: Whether the host's memory is meant. Else it is the GPUs', or the host's if none is in use.
    """
    found = [row for row in owners(roots=roots_of(shell)).names if row.size_bytes >= _LEAST_BYTES]
    on_gpu = [row for row in found if row.device.startswith("gpu:")]
    of_host = [row for row in found if not row.device.startswith("gpu:")]
    chosen = of_host if of_ram else on_gpu or of_host
    sizes: dict[str, int] = defaultdict(int)
    for row in chosen:  # An optimizer has a row for its state and one for its parameters.
        sizes[row.name] += row.size_bytes
    return sorted(sizes.items(), key=lambda one: -one[1])


def _device_namer() -> Callable[[str], str]:
    """Return what gives a device its name in the table."""
    numbered = gpu_names()
    return lambda key: numbered.get(key) or device_name(key)


def _place(row: Row, blocks: Sequence[Row]) -> str:
    """Return a row's name, for a failed cell with the variable that holds the most."""
    if row.kind != "failed cell":
        return row.name
    inside = [
        one.name
        for one in blocks
        if one.device == row.device and one.kind == row.kind and one.name.startswith(f"{row.name} -> ")
    ]
    more = f" and {len(inside) - 1} more" if len(inside) > 1 else ""
    return f"{inside[0]}{more}" if inside else row.name


def _others(session: Session, names: Callable[[str], str]) -> list[str]:
    """Return a line for each other process on a GPU, where the driver tells."""
    ticket = session.tracker.meter.sampler.submit(neighbours)
    if not ticket.wait(_DRIVER_SECONDS) or ticket.error is not None:
        return []  # `%titan status` says what is wrong with the driver
    found: list[Neighbour] = ticket.value
    return [
        f"{names(one.device)}: "
        f"{'an unknown amount' if one.used_bytes is None else byte_size(one.used_bytes)} is held by another "
        f"process, {one.name or 'which cannot be seen from here'} (pid {one.pid})"
        for one in found
    ]


def _title(found: Owners, names: Callable[[str], str]) -> str:
    parts = []
    for key, total in found.devices.items():
        text = f"{names(key)} {byte_size(total.named_bytes)}"
        if total.allocated_bytes is not None:
            text += f" of {byte_size(total.allocated_bytes)} allocated"
        parts.append(text)
    return f"Memory by name: {', '.join(parts)}" if parts else "Memory by name"


def _texts(row: Row, name: str, device: str) -> tuple[str, ...]:
    frees = "" if row.kind == "no name" else byte_size(row.frees_bytes)
    return (
        name,
        row.kind,
        device,
        byte_size(row.size_bytes),
        frees,
        ", ".join(row.shared_with),
    )
