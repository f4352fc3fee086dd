"""The rows of up to 65,536 items of one chat, side by side, in memory or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from titan_nb.chat.catalog import CHUNK_ROWS
from titan_nb.chat.index import Index
from titan_nb.chat.segment import HEADER_BYTES

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.segment import Segment

__all__ = ["Chunk", "Files"]

_FIRST_ROWS = 8


class Files(Protocol):
    """Where the files of rows are: a memory's folder, or a place for the time being."""

    def segment(self, number: int, dimension: int, count: int) -> Segment:
        """Open the file of a chunk, of which the first ``count`` rows count."""
        ...

    def new_segment(self, number: int, dimension: int) -> Segment:
        """Make the file of a chunk."""
        ...

    def remove(self, number: int) -> None:
        """Remove the file of a chunk, if it is there."""
        ...


class Chunk:
    """Rows that are only ever appended to, so that what a search sees stays right without a copy.

    Rows are written after the last that counts and count from `publish` on; what was written and never
    published is written over. One thread at a time may change a chunk.

    Args:
        number: Unique over the life of the memory.
        chat: The id of its chat.
        dimension: Numbers per row.
        files: Where its file of rows is.
        durable: Whether all rows are written to the file, and not only when they leave the memory.
        count: Rows in it.
        dead: How many of them do not count any more.
    """

    def __init__(
        self,
        number: int,
        chat: str,
        dimension: int,
        files: Files,
        *,
        durable: bool,
        count: int = 0,
        dead: int = 0,
    ) -> None:
        self.number = number
        self.chat = chat
        self.dimension = dimension
        self.count = count
        self.dead = dead
        self.last_used = 0
        self.index = Index(dimension)
        self._files = files
        self._durable = durable
        self._resident: np.ndarray | None = None
        self._segment: Segment | None = None
        self._alive: np.ndarray | None = None

    @property
    def rows(self) -> np.ndarray:
        """Unit rows, float32, shape (count, d); later rows do not show in what this returned.

        Raises:
            ChatError: If the file of rows cannot be opened.
        """
        if self._resident is not None:
            return self._resident[: self.count]
        return self._opened().rows()[: self.count]

    @property
    def alive(self) -> np.ndarray | None:
        """Which rows count, bool, shape (count,), never changed in place; None where all do."""
        return self._alive[: self.count] if self.dead and self._alive is not None else None

    @property
    def alive_is_unknown(self) -> bool:
        """Whether it is known that rows are dead, but not which; then `set_alive` is due."""
        return self.dead > 0 and self._alive is None

    @property
    def resident_bytes(self) -> int:
        """What the rows and their codes take in memory, with the room for rows to come."""
        return self.rows_bytes + self.index.host_bytes

    @property
    def rows_bytes(self) -> int:
        """What the rows alone take in memory, with the room for rows to come."""
        return 0 if self._resident is None else int(self._resident.nbytes)

    @property
    def disk_bytes(self) -> int:
        """Size of the file of rows, 0 without one."""
        if self._segment is not None:
            return self._segment.file_bytes
        return HEADER_BYTES + self.count * 4 * self.dimension if self._durable else 0

    @property
    def on_disk(self) -> bool:
        """Whether the rows are only mapped from the file."""
        return self._resident is None and (self._durable or self._segment is not None)

    def create(self) -> None:
        """Make the file of a new durable chunk."""
        self._segment = self._files.new_segment(self.number, self.dimension)

    def write(self, rows: np.ndarray) -> int:
        """Write rows, float32, shape (n, d), after the last that counts.

        Returns:
            The CRC-32 of what went to the file; 0 if nothing did.

        Raises:
            MemoryError: If there is no room for them in memory.
            ResourceError: If there is none on the disk.
        """
        crc = 0
        if self.on_disk and not self._durable and self._segment is not None and not self._segment.is_there:
            # Something cleaned the temporary folder; the mapping still has the rows.
            self._resident, self._segment = self.rows.copy(), None
        if self.on_disk or self._durable:
            segment = self._opened()
            if segment.count > self.count:
                segment.truncate(self.count)
            crc = segment.append(rows)
            if not self._durable:
                segment.release()  # nobody will sync, which is what else lets go of the descriptor
                segment.rows()  # mapped at once: temporary files may be removed by others
        if not self.on_disk:
            end = self.count + len(rows)
            self._room(end)[self.count : end] = rows
        return crc

    def sync(self) -> None:
        """Return when all rows that were written to the file are on the disk."""
        self._opened().sync()

    def publish(self, count: int) -> None:
        """Let the first ``count`` rows count."""
        alive = self._alive
        if alive is not None and count > len(alive):
            import numpy as np

            grown = np.ones(2 * count, dtype=bool)
            grown[: len(alive)] = alive
            self._alive = grown
        self.count = count

    def cut(self) -> None:
        """Take back what was written and not published."""
        if self._segment is not None and self._segment.count > self.count:
            self._segment.truncate(self.count)

    def set_alive(self, slots: np.ndarray) -> None:
        """Let the rows at these slots be the only ones that count."""
        import numpy as np

        alive = np.zeros(self.count, dtype=bool)
        alive[slots] = True
        self._alive = alive

    def kill(self, slots: Sequence[int]) -> None:
        """Let the rows at these slots, which all count, count no more."""
        if not self.alive_is_unknown:
            import numpy as np

            held = self._alive
            known = np.ones(self.count, dtype=bool) if held is None else held[: self.count].copy()
            known[list(slots)] = False
            self._alive = known
        self.dead += len(slots)

    def reset(self, count: int, dead: int) -> None:
        """Take over what the catalogue says of the chunk."""
        self._alive = None
        if count < self.count:
            # A reader, whose writer has cut off what the disk lost: other rows come to where these were.
            self.index = Index(self.dimension)
        self.count, self.dead = count, dead

    def trim(self) -> None:
        """Give back the room for rows to come."""
        if self._resident is not None and len(self._resident) > self.count:
            self._resident = self._resident[: self.count].copy()

    def to_disk(self) -> None:
        """Keep the rows only in the file, which is written first where there is none.

        Raises:
            ResourceError: If the disk is full; the rows stay where they are then.
        """
        if self._resident is None:
            return
        segment = self._segment
        if segment is None:
            segment = (
                self._opened() if self._durable else self._files.new_segment(self.number, self.dimension)
            )
        if segment.count < self.count:
            segment.append(self._resident[segment.count : self.count])
            segment.sync()
        segment.rows()  # mapped before the rows are let go: temporary files may be removed by others
        self._segment = segment
        self._resident = None

    def to_ram(self) -> None:
        """Read the rows into memory.

        Raises:
            ResourceError: If there is no room; the rows stay where they are then.
        """
        if self.on_disk:
            self.cut()  # or what was not published would be taken for rows that were written already
            self._resident = self.rows.copy()

    def _opened(self) -> Segment:
        segment = self._segment
        if segment is None or segment.count < self.count:
            segment = self._segment = self._files.segment(self.number, self.dimension, self.count)
        return segment

    def _room(self, count: int) -> np.ndarray:
        """Return the resident rows with room for ``count``."""
        held = self._resident
        if held is not None and count <= len(held):
            return held
        import numpy as np

        doubled = _FIRST_ROWS if held is None else 2 * len(held)
        grown = np.empty((min(CHUNK_ROWS, max(count, doubled)), self.dimension), dtype=np.float32)
        if held is not None:
            grown[: self.count] = held[: self.count]
        self._resident = grown
        return grown
