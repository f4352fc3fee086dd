"""The last good answer of each provider, asked for in the background; no cell ever waits for one."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone

from titan_nb.carbon.provider import Answer, Provider
from titan_nb.carbon.web import NoAnswer

__all__ = ["Live", "default"]

FRESH_SECONDS = 15 * 60.0
"""How long an answer is good enough; the grids publish every 5 to 60 minutes."""

RETRY_SECONDS = 60.0
"""How long a provider is left alone after it failed."""

MAX_AGE = timedelta(days=1)
"""An answer for a time longer ago says nothing of now: a grid has its own course every day."""

_CLOCK_ERROR = timedelta(hours=1)
_LARGEST_GRAMS_PER_KWH = 5000  # as for an explicit intensity


class _Asked:
    """What is known of one provider's grid."""

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.failure: str | None = None
        self.told = False
        self.due = -math.inf
        self.thread: threading.Thread | None = None


class Live:
    """Asks providers, one short-lived daemon thread at a time for each grid, and keeps what they said.

    Nothing here takes a lock: each field is set in one step, and a lock could be held by a thread that a
    forked child does not have.

    Args:
        clock: Steady time in seconds, for how long an answer is fresh.
        now: The time of day in UTC, for how old an answer is.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._clock = clock
        self._now = now
        self._asked: dict[tuple[str, str], _Asked] = {}

    def refresh(self, provider: Provider, grid: str) -> None:
        """Start to ask ``provider`` for ``grid``, if its last answer is not fresh; returns at once."""
        if not provider.covers(grid):
            return
        asked = self._asked.setdefault((provider.name, grid), _Asked())
        now = self._clock()
        if now < asked.due or (asked.thread is not None and asked.thread.is_alive()):
            return
        asked.due = now + RETRY_SECONDS
        asked.thread = threading.Thread(
            target=self._ask, args=(provider, grid, asked), name="titan-carbon", daemon=True
        )
        try:
            asked.thread.start()
        except RuntimeError as error:  # no thread can be had, or Python is about to end
            asked.thread = None
            asked.failure = str(error)

    def last(self, provider: Provider, grid: str) -> Answer | None:
        """Return the last good answer, or None when there is none or it is more than a day old."""
        asked = self._asked.get((provider.name, grid))
        answer = None if asked is None else asked.answer
        return answer if answer is not None and self._now() - answer.at <= MAX_AGE else None

    def failure(self, provider: Provider, grid: str) -> str | None:
        """Return why the last attempt failed; None when it did not, or was not made."""
        asked = self._asked.get((provider.name, grid))
        return None if asked is None else asked.failure

    def warning(self, provider: Provider, grid: str) -> str | None:
        """Return why ``provider`` fails, once until it has answered again."""
        asked = self._asked.get((provider.name, grid))
        if asked is None or asked.failure is None or asked.told:
            return None
        asked.told = True
        return f"{provider.name} gave no carbon intensity for {grid}: {asked.failure}"

    def settle(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds until nobody is being asked; for scripts and tests."""
        deadline = self._clock() + timeout
        for asked in list(self._asked.values()):
            if asked.thread is not None:
                asked.thread.join(max(0.0, deadline - self._clock()))

    def _ask(self, provider: Provider, grid: str, asked: _Asked) -> None:
        try:
            answer = provider.fetch(grid)
            self._check(answer)
        except NoAnswer as error:
            asked.failure = str(error)
        except Exception as error:  # said, never raised; without its text, which might show the key
            asked.failure = f"its answer could not be read ({type(error).__name__})"
        else:
            asked.answer, asked.failure, asked.told = answer, None, False
            asked.due = self._clock() + FRESH_SECONDS

    def _check(self, answer: Answer) -> None:
        """Refuse an answer that cannot be right."""
        if answer.kind != "average":
            raise NoAnswer(f"its answer is a {answer.kind} intensity, which is not mixed with average ones")
        value = answer.grams_per_kwh
        if not (0 <= answer.low <= value <= answer.high <= _LARGEST_GRAMS_PER_KWH):
            raise NoAnswer(f"its answer is {value!r} g/kWh, which cannot be right")
        age = self._now() - answer.at
        if age > MAX_AGE or age < -_CLOCK_ERROR:
            raise NoAnswer(f"its answer is for {answer.at:%Y-%m-%d %H:%M} UTC, which is not now")


@functools.cache
def default() -> Live:
    """Return the answers of this process."""
    return Live()
