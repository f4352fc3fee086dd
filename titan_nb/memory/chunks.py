"""Data in pieces along their first axis, each of them halved where it does not fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from titan_nb.errors import SettingsError
from titan_nb.memory.attempts import Done, attempt, count_of, refuse_later_work, too_small
from titan_nb.memory.callee import Callee

__all__ = ["Chunks", "chunks"]

T = TypeVar("T")


def chunks(x: Any, size: int | None = None, *, minimum: int = 1) -> Chunks:
    """Divide ``x`` along its first axis into pieces of ``size``.

    ``chunks(x, 1000).map(fn)`` calls ``fn`` on each piece, and on half of it where memory is short.
    ``for piece in chunks(x, 1000):`` only divides: Python has no way to run the body of a loop again.

    Args:
        x: A tensor, array, list, data frame, range, or whatever else has a length and slices.
        size: How many rows a piece has at most; by default all of them, until memory is short.
        minimum: The fewest rows that a piece is halved to.

    Raises:
        SettingsError: If ``x`` cannot be divided, or a number cannot be used.
    """
    return Chunks(x, size, minimum)


class Chunks:
    """Data in pieces; see `chunks`."""

    def __init__(self, x: Any, size: int | None, minimum: int) -> None:
        self._x = x
        self._count = _rows_of(x)
        self._minimum = count_of("minimum", minimum)
        self._size = max(self._count, self._minimum) if size is None else count_of("size", size)
        if self._minimum > self._size:
            raise SettingsError(
                f"minimum is {self._minimum}, above size, which is {self._size}: give a smaller minimum"
            )

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, self._count, self._size):
            yield self._piece(start, self._size)

    def map(self, fn: Callable[[Any], T]) -> list[T]:
        """Return what ``fn`` returns for each piece, in order.

        Where memory is short, the memory of the failed call is given back, and ``fn`` is called on the first
        half of that piece, as often as it takes; the smaller size then holds for all that follows. Before
        that it is called once more on the whole piece, where a part of titan can spare memory. What is
        done is never done again. The rows of a failed call are seen again, so ``fn`` should do nothing but
        compute its result. Any error but a shortage passes through.

        Args:
            fn: A plain function of one piece.

        Raises:
            ResourceError: If memory is short even for ``minimum`` rows.
            TypeError: If ``fn`` is a coroutine or generator function, or cannot be called.
        """
        refuse_later_work(fn)
        results: list[T] = []
        start, size, yielded = 0, self._size, False
        while start < self._count:
            rows = min(size, self._count - start)
            last = rows <= self._minimum
            ended = attempt(self._call, fn, start, rows, keep_error=last)
            if isinstance(ended, Done):
                results.append(ended.value)
                start += rows
            elif ended.yielded_bytes and not yielded:
                yielded = True
            elif last:
                raise too_small(
                    f"{Callee(fn, (), {}).name} on rows {start:,} to {start + rows - 1:,} of {self._count:,}",
                    ended,
                    "free memory, or give it less to do at a time",
                )
            else:
                size = max(self._minimum, rows // 2)
        return results

    def _call(self, fn: Callable[[Any], T], start: int, rows: int) -> T:
        # Cut in here, so that a piece which is a copy counts as part of the attempt.
        return fn(self._piece(start, rows))

    def _piece(self, start: int, rows: int) -> Any:
        # pandas reads x[a:b] as rows in some cases and as labels in others.
        by_position = self._x.iloc if hasattr(type(self._x), "iloc") else self._x
        return by_position[start : start + rows]


def _rows_of(x: Any) -> int:
    shape = getattr(x, "shape", None)
    try:
        # Sparse matrices have a shape but no length.
        count = int(shape[0]) if isinstance(shape, tuple) else len(x)
    except (TypeError, IndexError) as error:
        raise SettingsError(
            f"a {type(x).__name__} has no first axis here: pass a tensor, array, list or data frame"
        ) from error
    if not hasattr(type(x), "__getitem__") or isinstance(x, (dict, set)):
        raise SettingsError(f"a {type(x).__name__} has no slices: pass a tensor, array, list or data frame")
    return count
