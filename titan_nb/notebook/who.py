"""`%titan who`: which name holds what memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from titan_nb.energy.sensors.nvml_neighbours import Neighbour, neighbours
from titan_nb.memory.owners import Owners, Row, owners
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
    rows = [*found.names, *(row for row in found.rows if row.kind == "no name")]
    rows = sorted((row for row in rows if row.size_bytes >= _LEAST_BYTES), key=lambda row: -row.size_bytes)
    shown = rows[: options.k or _ROWS]
    left = len(rows) - len(shown)
    notes = [f"{left} smaller ones are left out; -k {len(rows)} shows them"] if left else []
    if found.stopped_at:
        notes.append(f"stopped at: {found.stopped_at}")
    if any(key.startswith("gpu:") for key in found.devices):
        notes += _others(session)
    session.presenter.publish(grid_bundle(_title(found), _HEADER, [_texts(row) for row in shown], notes))


def holders(shell: Any) -> list[tuple[str, int]]:
    """Return who holds memory, the largest first: on the GPUs if one is in use, else on the host."""
    found = [row for row in owners(roots=roots_of(shell)).names if row.size_bytes >= _LEAST_BYTES]
    on_gpu = [row for row in found if row.device.startswith("gpu:")]
    return [(row.name, row.size_bytes) for row in on_gpu or found]


def _others(session: Session) -> list[str]:
    """Return a line for each other process on a GPU, where the driver tells."""
    ticket = session.tracker.meter.sampler.submit(neighbours)
    if not ticket.wait(_DRIVER_SECONDS) or ticket.error is not None:
        return []  # `%titan status` says what is wrong with the driver
    found: list[Neighbour] = ticket.value
    return [
        f"{device_name(one.device)}: "
        f"{'an unknown amount' if one.used_bytes is None else byte_size(one.used_bytes)} is held by another "
        f"process, {one.name or 'which cannot be seen from here'} (pid {one.pid})"
        for one in found
    ]


def _title(found: Owners) -> str:
    parts = []
    for key, total in found.devices.items():
        text = f"{device_name(key)} {byte_size(total.named_bytes)}"
        if total.allocated_bytes is not None:
            text += f" of {byte_size(total.allocated_bytes)} allocated"
        parts.append(text)
    return f"Memory by name: {', '.join(parts)}" if parts else "Memory by name"


def _texts(row: Row) -> tuple[str, ...]:
    frees = "" if row.kind == "no name" else byte_size(row.frees_bytes)
    return (
        row.name,
        row.kind,
        device_name(row.device),
        byte_size(row.size_bytes),
        frees,
        ", ".join(row.shared_with),
    )
