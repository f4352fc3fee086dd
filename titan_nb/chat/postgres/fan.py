"""The same work on several servers at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from psycopg import Cursor

__all__ = ["on_each"]

_Result = TypeVar("_Result")
_CANCEL_SECONDS = 5


def on_each(cursors: Sequence[Cursor[Any]], work: Callable[[int, Cursor[Any]], _Result]) -> list[_Result]:
    """Call ``work(i, cursor i)`` for all cursors at once, and return what they return.

    Where one raises, or Ctrl-C is pressed, the statements of the others are cancelled.
    """
    if len(cursors) <= 1:
        return [work(place, cursor) for place, cursor in enumerate(cursors)]
    # Threads for this call alone: there are none to stop, and none that a fork would lack.
    with ThreadPoolExecutor(len(cursors), "titan-postgres") as threads:
        futures = [threads.submit(work, place, cursor) for place, cursor in enumerate(cursors)]
        try:
            done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
            if waiting:
                next(future for future in done if future.exception()).result()
        except BaseException:
            for future, cursor in zip(futures, cursors, strict=True):
                if not future.done():
                    _cancel(cursor)
            raise
        return [future.result() for future in futures]


def _cancel(cursor: Cursor[Any]) -> None:
    import psycopg

    with contextlib.suppress(psycopg.Error):
        if hasattr(cursor.connection, "cancel_safe"):
            cursor.connection.cancel_safe(timeout=_CANCEL_SECONDS)
        else:
            cursor.connection.cancel()
