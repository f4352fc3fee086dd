"""Where the chunks of a memory are: copied to a GPU, in RAM, or on disk, within what the user allows."""

from __future__ import annotations

import difflib
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from titan_nb.chat.copies import Copies
from titan_nb.errors import ChatError, ResourceError, SettingsError
from titan_nb.memory.sizes import bytes_of
from titan_nb.units import byte_size
from titan_nb.whole_number import whole_number

if TYPE_CHECKING:
    from titan_nb.chat.chunk import Chunk

__all__ = ["TIERS", "Tiers", "read_budgets"]

TIERS = ("gpu", "ram", "disk")

_FLOAT32_BYTES = 4


def read_budgets(budgets: Mapping[str, int | str] | None) -> dict[str, int]:
    """Return budgets in bytes by tier, such as ``{"gpu": "2GiB", "ram": 4 << 30}``; empty for none.

    A tier that is not named has no limit; 0 leaves a tier out.

    Raises:
        SettingsError: If a tier is unknown, or a size cannot be used.
    """
    if budgets is None:
        return {}
    if not isinstance(budgets, Mapping):
        raise SettingsError(
            f"budgets is a {type(budgets).__name__}: give sizes by tier, such as "
            "{'gpu': '2GiB', 'ram': '4GiB', 'disk': '50GiB'}"
        )
    return {_tier(name): _size(name, value) for name, value in budgets.items()}


class Tiers:
    """Moves the chunks of one memory between its tiers; what was not used for longest moves down.

    Nothing is lost on the way, and searches give the same results in each tier: a GPU holds copies, and what
    is on disk is mapped. Without budgets and device nothing ever moves.

    * GPU: a copy of what a search uses is made there while the budget and the device have room, and dropped
      when others need it (see `Copies`). That takes a ``device``, or a budget for ``gpu`` and a GPU that the
      user has started.
    * RAM: above the budget the rows of chunks go to disk, and where that is not enough, codes are dropped;
      they are made again when a search needs them. What went to disk comes back when it is used while there
      is room. Chunks that were mapped from the files of a folder to begin with stay so.
    * Disk: rows for which there is no room are refused.

    Args:
        budgets: The most bytes by tier, as `read_budgets` returns them.
        device: The GPU for copies; None for the one in use, if ``gpu`` has a budget.

    Raises:
        SettingsError: If the device cannot be used.
    """

    def __init__(self, budgets: Mapping[str, int] | None = None, device: str | None = None) -> None:
        found = {} if budgets is None else budgets
        gpu_bytes, self._ram_bytes, self._disk_bytes = map(found.get, TIERS)
        wanted = gpu_bytes != 0 and (device is not None or gpu_bytes is not None)
        on_host = str(device).partition(":")[0] == "cpu"
        self._copies = Copies(gpu_bytes, device) if wanted and not on_host else None
        self._chunks: Callable[[], Iterable[Chunk]] = tuple
        self._sizes: weakref.WeakKeyDictionary[Chunk, int] = weakref.WeakKeyDictionary()
        self._resident_bytes = 0  # of all in there, and of those that are gone since it was last counted
        self._moved: weakref.WeakSet[Chunk] = weakref.WeakSet()
        self._uses = 0

    def attach(self, chunks: Callable[[], Iterable[Chunk]]) -> None:
        """Let ``chunks()`` tell which chunks there are, in any thread and without a lock."""
        self._chunks = chunks

    def used(self, chunks: Iterable[Chunk]) -> None:
        """Say which chunks a search is about to use; called by one thread at a time."""
        if self._copies is None and self._ram_bytes is None:
            return
        used = list(chunks)
        self._uses += 1
        for chunk in used:
            chunk.last_used = self._uses
        if self._ram_bytes is not None:
            self._bring_back(used, self._ram_bytes)
        if self._copies is not None:
            self._copies.use([(chunk.index, chunk.rows) for chunk in used])

    def settle(self, chunks: Iterable[Chunk]) -> None:
        """Say which chunks have grown, by rows or by the codes of a search, and move down what is too much.

        Called by one thread at a time, the same that may change chunks.
        """
        if self._ram_bytes is None:
            return
        self._uses += 1
        for chunk in chunks:
            chunk.last_used = self._uses
            self._count(chunk)
        if self._resident_bytes > self._ram_bytes:
            self._make_room(self._ram_bytes, spared=())

    def room_for(self, new_bytes: int, *, on_disk: bool) -> None:
        """Refuse rows that the budgets have no room for, before any of them is written.

        Args:
            new_bytes: What they take.
            on_disk: Whether they go to the files of a folder at once. Otherwise only what is too much for
                the RAM budget goes to disk.

        Raises:
            ResourceError: If the disk budget is passed.
        """
        if self._disk_bytes is None:
            return
        if on_disk:
            room = self._disk_bytes - sum(chunk.disk_bytes for chunk in self._chunks())
        elif self._ram_bytes is not None:
            room = self._disk_bytes + self._ram_bytes - sum(map(_rows_bytes, self._chunks()))
        else:
            return
        if new_bytes > room:
            left = max(0, room)
            raise ResourceError(
                f"the chat memory's disk budget of {byte_size(self._disk_bytes)} has no room for "
                f"{byte_size(new_bytes)} of rows, {byte_size(left)} are left: forget chats and compact, or "
                "give a larger budget",
                requested_bytes=new_bytes,
                available_bytes=left,
                device="disk",
            )

    def yield_bytes(self, needed: int, device_key: str) -> int:
        """Drop copies on a GPU until ``needed`` bytes are given back; return how many were."""
        return 0 if self._copies is None else self._copies.yield_bytes(needed, device_key)

    def report(self) -> dict[str, int]:
        """Return what each tier holds, in bytes: copies, rows and codes in RAM, files of rows."""
        chunks = list(self._chunks())
        return {
            "gpu": 0 if self._copies is None else self._copies.device_bytes,
            "ram": sum(chunk.resident_bytes for chunk in chunks),
            "disk": sum(chunk.disk_bytes for chunk in chunks),
        }

    def close(self) -> None:
        """Drop the copies and stop being asked for memory."""
        if self._copies is not None:
            self._copies.close()

    def _count(self, chunk: Chunk) -> None:
        size = chunk.resident_bytes
        self._resident_bytes += size - self._sizes.get(chunk, 0)
        self._sizes[chunk] = size

    def _bring_back(self, used: list[Chunk], budget: int) -> None:
        """Bring back what was moved to disk, where it fits beside what the same search uses."""
        for chunk in [chunk for chunk in used if chunk in self._moved]:
            size = _rows_bytes(chunk)
            if sum(one.resident_bytes for one in used) + size > budget:
                return
            self._make_room(budget - size, spared=used)
            if self._resident_bytes + size > budget:
                return
            try:
                chunk.to_ram()
            except (ChatError, ResourceError, MemoryError):
                return  # where it is, it can be searched as well
            self._moved.discard(chunk)
            self._count(chunk)

    def _make_room(self, most_bytes: int, spared: Iterable[Chunk]) -> None:
        """Move down what was not used for longest until no more than ``most_bytes`` are resident."""
        chunks = sorted(self._chunks(), key=lambda chunk: chunk.last_used)
        self._sizes.clear()
        self._resident_bytes = 0
        for chunk in chunks:
            self._count(chunk)
        kept = set(map(id, spared))
        idle = [chunk for chunk in chunks if id(chunk) not in kept]
        disk_bytes = sum(chunk.disk_bytes for chunk in chunks)
        for chunk in idle:
            if self._resident_bytes <= most_bytes:
                return
            written = max(0, _rows_bytes(chunk) - chunk.disk_bytes)
            if chunk.on_disk or (self._disk_bytes is not None and disk_bytes + written > self._disk_bytes):
                continue
            try:
                chunk.to_disk()
            except (ChatError, ResourceError, MemoryError, OSError):
                break  # the disk is full or broken: what it cannot take stays
            disk_bytes += written
            self._moved.add(chunk)
            self._count(chunk)
        for chunk in idle:
            if self._resident_bytes <= most_bytes:
                return
            chunk.index.release()
            self._count(chunk)


def _rows_bytes(chunk: Chunk) -> int:
    return chunk.count * chunk.dimension * _FLOAT32_BYTES


def _tier(name: object) -> str:
    if name in TIERS:
        return str(name)
    near = difflib.get_close_matches(str(name), TIERS, n=1)
    hint = f"did you mean {near[0]!r}?" if near else "the tiers are 'gpu', 'ram' and 'disk'"
    raise SettingsError(f"budgets names a tier {name!r}: {hint}")


def _size(name: object, value: object) -> int:
    if isinstance(value, str):
        try:
            return bytes_of(value)
        except SettingsError as error:
            raise SettingsError(f"the budget of {name!r}: {error}") from None
    size = whole_number(value, 0)
    if size is None:
        raise SettingsError(f"the budget of {name!r} is {value!r}: give bytes, or a text such as '2GiB'")
    return size
