"""Exact peaks of nested and overlapping windows from a single high-water mark.

The operating system and torch's allocators keep one peak each, which anyone may reset. A window that
simply resets it at its start destroys what the windows around it would have seen. So at every boundary
of any window the peak is read, raised into *all* open windows, and only then reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from titan_nb.errors import SensorError
from titan_nb.living import Living

__all__ = ["Extent", "Fold", "HighWaterMark", "Level", "Window"]


class Level(NamedTuple):
    """What one device holds now, and the most it held since its mark was last reset.

    Attributes:
        current_bytes: What it holds.
        peak_bytes: The most it held.
        cached_bytes: What its allocator keeps beside that for later; None where it has no such cache.
    """

    current_bytes: int
    peak_bytes: int
    cached_bytes: int | None = None


class Extent(NamedTuple):
    """What one device held at the start of a window, at the most, and at its end; and its cache then."""

    before_bytes: int
    peak_bytes: int
    after_bytes: int
    cached_bytes: int | None = None


class HighWaterMark(Protocol):
    """A counter that remembers its own peak."""

    def take(self) -> Mapping[str, Level]:
        """Return the level of each device by key, and let its next peak start from what it holds now.

        Devices that do not exist yet are left out. May raise anything; then nothing is known.
        """
        ...


class Window:
    """One open window of a `Fold`; to be handed back to `Fold.close`."""

    __slots__ = ("__weakref__", "before_bytes", "lost", "peak_bytes")

    def __init__(self) -> None:
        self.before_bytes: dict[str, int] = {}
        self.peak_bytes: dict[str, int] = {}
        self.lost = False


class Fold:
    """The open windows of one high-water mark.

    Not thread-safe: the caller holds a lock. A peak that another thread reaches in the microseconds
    between reading the mark and resetting it is missed; no counter offers both in one step.

    Args:
        mark: The counter, which nobody else may reset without a `turn` before.
    """

    def __init__(self, mark: HighWaterMark) -> None:
        self.failure = ""
        self._mark = mark
        # Weak, so that a window whose owner was interrupted before it could close it does not stay for ever.
        self._open: Living[Window] = Living()

    def open(self) -> Window:
        """Begin a window."""
        window = Window()
        levels = self._turn()
        if levels is None:
            window.lost = True
        else:
            window.before_bytes = {key: level.current_bytes for key, level in levels.items()}
            window.peak_bytes = dict(window.before_bytes)
        self._open.add(window)
        return window

    def close(self, window: Window) -> dict[str, Extent]:
        """End ``window`` and return its extents by device key; empty when the counter failed in it.

        A device that appeared only after the window began held nothing before.
        """
        levels = self._turn()
        self._open.discard(window)
        if levels is None or window.lost:
            return {}
        return {
            key: Extent(
                window.before_bytes.get(key, 0),
                window.peak_bytes[key],
                level.current_bytes,
                level.cached_bytes,
            )
            for key, level in levels.items()
        }

    def turn(self) -> None:
        """Let the open windows see the peak now, because somebody else is about to reset the mark."""
        if self._open:
            self._turn()

    def lose(self, why: str) -> None:
        """Give the open windows up: the mark was reset, and they could not look at it before."""
        for window in self._open:
            window.lost = True
            self.failure = why

    def _turn(self) -> Mapping[str, Level] | None:
        """Raise the peak into every open window and reset the mark; None when the counter failed."""
        complete = False
        try:
            levels = self._mark.take()
            for key, level in levels.items():
                _check(key, level)
                for window in self._open:
                    window.peak_bytes[key] = max(window.peak_bytes.get(key, 0), level.peak_bytes)
            complete = True
        except Exception as error:
            # Whatever a driver or a patched library raises, the cell must go on.
            self.failure = f"{type(error).__name__}: {error}"
            return None
        finally:
            # Also after an interrupt: the mark may be reset already, and its peak is then gone.
            if not complete:
                for window in self._open:
                    window.lost = True
        return levels


def _check(key: str, level: Level) -> None:
    current, peak = level.current_bytes, level.peak_bytes
    if type(current) is not int or type(peak) is not int or not 0 <= current <= peak < 2**63:
        raise SensorError(f"the memory counter of {key} reads {current!r} with a peak of {peak!r}")
