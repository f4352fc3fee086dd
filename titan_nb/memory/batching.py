"""The largest batch size that fits into memory, found by trying, with a word on what the trying changed."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from titan_nb.errors import SettingsError
from titan_nb.memory.attempts import Done, Shortage, attempt, count_of, refuse_later_work, too_small
from titan_nb.memory.callee import Callee
from titan_nb.memory.side_effects import Watch
from titan_nb.memory.tensors import shape_of, tensors_of

__all__ = ["BatchFit", "fit_batch"]

T = TypeVar("T")

_MOST_REMEMBERED = 256
_CONTAINERS = (list, tuple, dict, set)


@dataclass(frozen=True, slots=True)
class BatchFit(Generic[T]):
    """What `fit_batch` found.

    Attributes:
        value: What the function returned.
        batch_size: The batch size that fitted.
        failed_sizes: The sizes that did not, in the order they were tried.
        side_effects: What the failed attempts changed and nobody took back, one text each. Empty if nothing
            was seen: changes to files, to other processes and inside other objects are not looked for.
        remembered: Whether the first size tried was the one that an earlier call had found.
    """

    value: T = field(repr=False)
    batch_size: int
    failed_sizes: tuple[int, ...] = ()
    side_effects: tuple[str, ...] = ()
    remembered: bool = False


def fit_batch(
    fn: Callable[..., T],
    *args: Any,
    start: int,
    minimum: int = 1,
    restore_rng: bool = False,
    state: Mapping[str, Any] | None = None,
    remember: bool = True,
) -> BatchFit[T]:
    """Call ``fn(batch_size, *args)``, with half the batch size whenever memory is short.

    What a failed attempt has done stays done, and is reported: steps of optimizers, tensors changed in place,
    gradients, random numbers drawn, names bound anew, containers that grew. So let ``fn`` make afresh what
    each attempt must begin with, such as the model. Before the next attempt the memory of the failed one is
    given back; where a part of titan can spare memory of the GPU, as the chat memory can, the same size is
    tried once more. Any error but a shortage passes through.

    Args:
        fn: A plain function. It gets the batch size first.
        *args: What else it gets.
        start: The batch size to begin with.
        minimum: The smallest batch size to try.
        restore_rng: Whether each new attempt begins with the random numbers of the first: those of `random`,
            NumPy and torch, and of generators that ``fn`` can reach.
        state: More objects that ``fn`` changes, by name. Its arguments, and what it and the functions of its
            module reach by name, are looked at anyway.
        remember: Whether to begin with the size found by an earlier call with the same function and tensors
            of the same shapes; False tries ``start`` again.

    Raises:
        ResourceError: If memory is short even for ``minimum``; it says what was asked for and what is free.
        SettingsError: If a number cannot be used.
        TypeError: If ``fn`` is a coroutine or generator function, or cannot be called.
    """
    refuse_later_work(fn)
    start, minimum = count_of("start", start), count_of("minimum", minimum)
    if minimum > start:
        raise SettingsError(f"minimum is {minimum}, above start, which is {start}: give a smaller minimum")
    callee = Callee(fn, args, {} if state is None else state)
    anchors, shapes = callee.anchors(), _shapes(callee)
    known = _sizes.find(anchors, shapes) if remember else None
    size = start if known is None else max(minimum, min(start, known))
    remembered = known is not None
    failed: list[int] = []
    effects: list[str] = []
    yielded = False
    while True:
        watch = Watch(callee)
        try:
            ended = attempt(fn, size, *args, keep_error=size == minimum)
            if isinstance(ended, Shortage):
                effects += [f"batch size {size}: {text}" for text in watch.seen(restored=restore_rng)]
                if restore_rng:
                    watch.rewind()
        finally:
            watch.close()
        if isinstance(ended, Done):
            _sizes.keep(anchors, shapes, size)
            return BatchFit(ended.value, size, tuple(failed), tuple(effects), remembered)
        if ended.yielded_bytes and not yielded:
            yielded = True
            continue
        failed.append(size)
        if size == minimum:
            changed = f"; the failed attempts have changed: {'; '.join(effects)}" if effects else ""
            raise too_small(
                f"{callee.name} with a batch size of {size}",
                ended,
                f"free memory, or give it less to do at a time{changed}",
            )
        size = max(minimum, size // 2)


class _Sizes:
    """The sizes that fitted, for the functions that are still alive; the oldest go first."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], tuple[tuple[weakref.ref[Any], ...], int]] = {}

    def find(self, anchors: tuple[Any, ...], shapes: int) -> int | None:
        """Return the size kept for these objects and shapes."""
        references, size = self._known.get((*map(id, anchors), shapes), ((), 0))
        alive = [reference() for reference in references]
        # An address may meanwhile be that of another object.
        same = bool(alive) and all(one is anchor for one, anchor in zip(alive, anchors, strict=True))
        return size if same else None

    def keep(self, anchors: tuple[Any, ...], shapes: int, size: int) -> None:
        """Keep a size."""
        try:
            references = tuple(weakref.ref(anchor) for anchor in anchors)
        except TypeError:
            return  # such as a function of a C library: there is nothing to tell that it is gone
        key = (*map(id, anchors), shapes)
        self._known.pop(key, None)
        self._known[key] = (references, size)
        while len(self._known) > _MOST_REMEMBERED:
            self._known.pop(next(iter(self._known)), None)


_sizes = _Sizes()


def _shapes(callee: Callee) -> int:
    """Return a number for the arguments, and for the shapes of the modules and tensors in reach."""
    # What a run leaves behind in containers and optimizers would make each call look like another one.
    named = ((name, value) for name, value in callee.named() if type(value) not in _CONTAINERS)
    objects = [*callee.given(), *named]
    found: list[Any] = [shape_of(tensor) for _, tensor in tensors_of(objects, in_optimizers=False)]
    found += [_shape(value) for _, value in callee.given()]
    return hash(tuple(found))


def _shape(value: Any) -> Any:
    """Return what the memory for ``value`` depends on, as far as its type is known."""
    kind = type(value)
    if kind in (int, bool, str):
        return value
    if kind in _CONTAINERS:
        return len(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and numpy.ndarray in kind.__mro__:
        return numpy.ndarray.shape.__get__(value), str(numpy.ndarray.dtype.__get__(value))
    return kind.__qualname__
