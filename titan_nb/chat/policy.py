"""What a chat memory does not keep, and how what it keeps fades."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from titan_nb.chat.store import Fading, Selection
from titan_nb.chat.surprise import Surprises, surprise
from titan_nb.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.store import Batch, Store

__all__ = ["Admission", "Policy", "Verdict"]

_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|h|d|w)\s*")
# Rows of a batch are compared with each other as many at a time.
_BLOCK_ROWS = 256
# A row of float32 has length 1 up to a rounding per number: its cosine to itself may be less than 1 by that.
_ROUNDING = 2e-7


@dataclass(frozen=True, slots=True)
class Policy:
    """What is worth keeping; by default everything is kept, and nothing fades.

    Attributes:
        keep_surprising: Keep only items whose surprise (1 - cosine to the nearest item of the chat) is above
            the mean + standard deviation of the last 100 surprises; the first 10 items are kept.
        half_life: The age at which half of a score is left: seconds, a timedelta, or a text such as
            ``"12h"``, ``"30d"`` or ``"8w"``. None lets no score fade.
        floor: What is left of the scores of the oldest items, from 0 to 1.
        deduplicate: The cosine, such as 0.999, from which on a new item is the same as one that is there,
            and is not stored again. None stores all.

    Raises:
        SettingsError: If a value cannot be used.
    """

    keep_surprising: bool = False
    half_life: str | float | timedelta | None = None
    floor: float = 0.05
    deduplicate: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.keep_surprising, bool):
            raise SettingsError(f"keep_surprising is {self.keep_surprising!r}: give True or False")
        _read_half_life(self.half_life)
        if not _is_number(self.floor) or not 0 <= self.floor <= 1:
            raise SettingsError(f"floor is {self.floor!r}: give a number from 0 to 1")
        if self.deduplicate is not None and not (_is_number(self.deduplicate) and 0 < self.deduplicate <= 1):
            raise SettingsError(
                f"deduplicate is {self.deduplicate!r}: give a cosine above 0 and at most 1, such as 0.999"
            )

    @property
    def admits_all(self) -> bool:
        """Whether every item is stored, so that none has to be looked at."""
        return not self.keep_surprising and self.deduplicate is None

    def fading(self, now: float | None = None) -> Fading | None:
        """Return how scores fade at the moment ``now``, in seconds since 1970; None where they do not."""
        half_life = _read_half_life(self.half_life)
        if half_life is None:
            return None
        return Fading(half_life, float(self.floor), time.time() if now is None else now)


class Verdict(NamedTuple):
    """What becomes of one row of a batch.

    Attributes:
        surprise: 1 - its cosine to the nearest item that was there before it.
        same_as_id: The item of the store that it repeats, or None.
        same_as_row: The earlier row of the same batch that it repeats, or None.
        dull: Whether it is left out for want of surprise.
    """

    surprise: float
    same_as_id: int | None = None
    same_as_row: int | None = None
    dull: bool = False

    @property
    def keep(self) -> bool:
        """Whether it is stored."""
        return self.same_as_id is None and self.same_as_row is None and not self.dull


class Admission:
    """Lets those rows into a store that a policy keeps; to be called by one thread at a time.

    The surprises of a chat are remembered for as long as this object lives and the chat has items. When a
    memory is opened again they begin anew, so that the next 10 items of each chat count as surprising.

    Args:
        policy: What is worth keeping.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._surprises: dict[str, Surprises] = {}

    def add(self, store: Store, chat_id: str, batch: Batch) -> list[int | None]:
        """Store the rows that are worth it, as if they came one by one.

        Returns:
            One entry per row: its number; that of the item it repeats; or None where it is no surprise.

        Raises:
            ChatError: What the store raises; then nothing is stored, and nothing remembered.
            ResourceError: Likewise.
        """
        found = store.search(batch.rows, 1, Selection(chat_id), encoder=batch.encoder).found
        nearest = [(matches[0].item.id, matches[0].score) if matches else None for matches in found]
        verdicts, surprises = self.judge(chat_id, batch.rows, nearest)
        kept = [row for row, verdict in enumerate(verdicts) if verdict.keep]
        stored = dict(zip(kept, store.add(chat_id, _only(batch, kept)) if kept else (), strict=True))
        self._surprises[chat_id] = surprises
        numbers: list[int | None] = []
        for row, one in enumerate(verdicts):
            same = row if one.keep else one.same_as_row
            numbers.append(one.same_as_id if same is None else stored[same])
        return numbers

    def judge(
        self, chat_id: str, rows: np.ndarray, nearest: Sequence[tuple[int, float] | None]
    ) -> tuple[list[Verdict], Surprises]:
        """Decide row by row; each row is compared with the chat and with the rows kept before it.

        The time for that grows with the square of the number of rows.

        Args:
            chat_id: The chat they are meant for.
            rows: Unit rows, float32, shape (n, d).
            nearest: For each row the number and cosine of the nearest item in the chat, None if it is empty.

        Returns:
            One verdict per row, and the surprises of the chat as they are after these rows.
        """
        known = self._surprises.get(chat_id)
        # A chat without items is a new one, also when there was one of this name before.
        surprises = Surprises() if known is None or nearest[0] is None else known.copy()
        batch = _Batch(rows)
        verdicts = []
        for row, stored in enumerate(nearest):
            verdict = self._verdict(stored, batch.nearest(row), surprises)
            surprises.note(verdict.surprise)
            if verdict.keep:
                batch.keep(row)
            verdicts.append(verdict)
        return verdicts, surprises

    def _verdict(
        self, stored: tuple[int, float] | None, mate: tuple[int, float] | None, surprises: Surprises
    ) -> Verdict:
        # Among equals the one that was there first.
        in_store = mate is None or (stored is not None and stored[1] >= mate[1])
        found = stored if in_store else mate
        value = surprise(None if found is None else found[1])
        least = self._policy.deduplicate
        if least is not None and found is not None and found[1] >= least - _ROUNDING:
            return Verdict(value, found[0]) if in_store else Verdict(value, None, found[0])
        return Verdict(value, dull=self._policy.keep_surprising and not surprises.exceeded_by(value))


class _Batch:
    """The rows of a batch, and how near each is to those kept before it."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self._kept: list[int] = []
        self._first = 0
        self._kept_before = 0

    def keep(self, row: int) -> None:
        """Compare the rows that follow with this one, too."""
        self._kept.append(row)

    def nearest(self, row: int) -> tuple[int, float] | None:
        """Return the kept row most like this one, the first of equals, and its cosine; None without any."""
        if row % _BLOCK_ROWS == 0:
            self._look_ahead(row)
        place = row - self._first
        best = (self._mates[place], self._cosines[place]) if self._kept_before else None
        here = self._kept[self._kept_before :]
        if here:
            cosines = self._within[place, [kept - self._first for kept in here]]
            nearest = int(cosines.argmax())
            if best is None or cosines[nearest] > best[1]:
                best = here[nearest], float(cosines[nearest])
        return best

    def _look_ahead(self, first: int) -> None:
        """Compare a block of rows with each other, and with the rows kept before it."""
        import numpy as np

        block = self._rows[first : first + _BLOCK_ROWS].astype(np.float64)
        self._first, self._kept_before = first, len(self._kept)
        self._within = _cosines(block, block)
        self._mates: list[int] = [-1] * len(block)
        self._cosines: list[float] = [-np.inf] * len(block)
        for start in range(0, len(self._kept), _BLOCK_ROWS):
            kept = self._kept[start : start + _BLOCK_ROWS]
            cosines = _cosines(block, self._rows[kept].astype(np.float64))
            for place, nearest in enumerate(cosines.argmax(axis=1).tolist()):
                if cosines[place, nearest] > self._cosines[place]:
                    self._mates[place], self._cosines[place] = kept[nearest], float(cosines[place, nearest])


def _cosines(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    # Rounded as the store rounds, so that equal rows tie.
    found: np.ndarray = (rows @ others.T).round(12)
    return found


def _only(batch: Batch, kept: Sequence[int]) -> Batch:
    if len(kept) == len(batch.rows):
        return batch
    return replace(
        batch,
        rows=batch.rows[kept],
        texts=[batch.texts[row] for row in kept],
        metadata=[batch.metadata[row] for row in kept],
        times=[batch.times[row] for row in kept],
        ids=None if batch.ids is None else [batch.ids[row] for row in kept],
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _read_half_life(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        found = _DURATION.fullmatch(value)
        seconds = 0.0 if found is None else float(found[1]) * _SECONDS[found[2]]
    else:
        seconds = float(value) if _is_number(value) else 0.0
    if not 0 < seconds < math.inf:
        raise SettingsError(
            f"half_life is {value!r}: give seconds, a timedelta, or a text such as '12h', '30d' or '8w'"
        )
    return seconds
