"""One chat's rows, side by side in one tensor that grows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from titan_nb.chat.device import own_rules
from titan_nb.memory.shortage import is_shortage, resource_error

if TYPE_CHECKING:
    import torch

__all__ = ["Chunk", "View"]


@dataclass(frozen=True, slots=True)
class View:
    """The rows of a chunk at one moment; rows added later do not show in it.

    Attributes:
        rows: Unit rows, float32, shape (n, d).
        ids: Their numbers, increasing; may go on beyond n.
        texts: Their texts; may go on beyond n.
        metadata: Their metadata as JSON; may go on beyond n.
    """

    rows: torch.Tensor
    ids: Sequence[int]
    texts: Sequence[str | None]
    metadata: Sequence[str | None]


class Chunk:
    """Rows that are only ever appended to, so that a `View` stays right without a copy.

    Args:
        rows: The first unit rows, float32, shape (n, d); the chunk owns them from now on.
        ids: One number per row.
        texts: One text or None per row.
        metadata: One JSON text or None per row.
    """

    def __init__(
        self,
        rows: torch.Tensor,
        ids: Sequence[int],
        texts: Sequence[str | None],
        metadata: Sequence[str | None],
    ) -> None:
        self._rows = rows
        self._ids = list(ids)
        self._texts = list(texts)
        self._metadata = list(metadata)
        self._count = len(rows)
        self._last_added = _now()

    @property
    def count(self) -> int:
        """Number of rows."""
        return self._count

    @property
    def dimension(self) -> int:
        """Numbers per row."""
        return int(self._rows.shape[1])

    @property
    def size_bytes(self) -> int:
        """Size of the tensor, with the room kept for rows to come."""
        return int(self._rows.nbytes)

    @property
    def last_added(self) -> str:
        """When rows were last added, in UTC, ISO 8601."""
        return self._last_added

    def view(self) -> View:
        """Return the rows as they are now."""
        return View(self._rows[: self._count], self._ids, self._texts, self._metadata)

    def append(
        self,
        rows: torch.Tensor,
        ids: Sequence[int],
        texts: Sequence[str | None],
        metadata: Sequence[str | None],
    ) -> None:
        """Add unit rows, float32, shape (n, d), at the end; all of them or, after an exception, none.

        Raises:
            ResourceError: If memory is short for the larger tensor.
        """
        start, end = self._count, self._count + len(rows)
        with own_rules(self._rows.device):
            if end > len(self._rows):
                self._rows = self._grown(max(end, 2 * len(self._rows)))
            self._rows[start:end] = rows
        # Slices, and the count last: what an interrupt in between leaves behind the last row is overwritten.
        self._ids[start:] = ids
        self._texts[start:] = texts
        self._metadata[start:] = metadata
        self._last_added = _now()
        self._count = end

    def _grown(self, capacity: int) -> torch.Tensor:
        import torch

        dimension, device = self.dimension, self._rows.device
        try:
            grown = torch.empty((capacity, dimension), dtype=torch.float32, device=device)
        except (RuntimeError, MemoryError) as error:
            if not is_shortage(error):
                raise
            needed = capacity * dimension * torch.float32.itemsize
            raise resource_error(
                f"room for {capacity} rows of {dimension} numbers", needed, device
            ) from error
        grown[: self._count] = self._rows[: self._count]
        return grown


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
