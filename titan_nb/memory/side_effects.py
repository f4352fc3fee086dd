"""What a call changed that outlives it: optimizers, tensors, gradients, random numbers, names, containers."""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

from titan_nb.memory.callee import Callee
from titan_nb.memory.random_streams import Stream, frozen, streams
from titan_nb.memory.tensors import optimizers_of, tensors_of, undisturbed

__all__ = ["Watch"]

_MOST_NAMES = 5
# Small, and nothing but their value: these are kept, to be compared.
_ATOMS = {bool, int, float, complex, str, bytes, type(None)}
_LONGEST_TEXT = 1000
_CONTAINERS = {list, dict, set, deque, bytearray}


class Watch:
    """What a call can reach, as it was when the watch began.

    Keeps none of the user's objects alive but generators of random numbers. What other threads change
    meanwhile is seen as well: nobody can tell it apart.

    Args:
        callee: The call.
    """

    def __init__(self, callee: Callee) -> None:
        self._callee = callee
        objects = list(callee.objects())
        self._streams = _readable(streams(objects))
        self._names = {key: _same_as(value) for key, value in callee.names().items()}
        self._lengths = _lengths(objects)
        self._tensors = [_Tensor(label, tensor) for label, tensor in tensors_of(objects)]
        self._steps = _Steps(optimizers_of(objects))

    def close(self) -> None:
        """Stop counting the steps of optimizers."""
        self._steps.close()

    def rewind(self) -> None:
        """Put the random numbers back to where they were."""
        for stream, state, _ in self._streams:
            stream.write(state)

    def seen(self, *, restored: bool) -> list[str]:
        """Return what has changed until now, one short text each.

        Args:
            restored: Whether the random numbers will be put back, and so need no mention.
        """
        moved = [stream.name for stream, _, before in self._streams if frozen(stream.read()) != before]
        return [
            *self._steps.seen(),
            *self._tensors_changed(),
            *([f"random numbers drawn: {_listed(moved)}"] if moved and not restored else []),
            *self._lengths_changed(),
            *self._names_changed(),
        ]

    def _tensors_changed(self) -> list[str]:
        values: Counter[str] = Counter()
        gradients: Counter[str] = Counter()
        for tensor in self._tensors:
            value, gradient = tensor.changed()
            values[tensor.label] += value
            gradients[tensor.label] += gradient
        # Some kernels write without a word, such as those that move the averages of a batch normalisation.
        texts = [
            f"{label}: at least {_count(n, 'tensor')} changed in place" for label, n in values.items() if n
        ]
        return texts + [f"{label}: {_count(n, 'gradient')} changed" for label, n in gradients.items() if n]

    def _lengths_changed(self) -> list[str]:
        now = _lengths(self._callee.objects())
        texts = []
        for label, (number, before) in self._lengths.items():
            same, after = now.get(label, (0, 0))
            if same == number and after != before:
                more = "more" if after > before else "fewer"
                texts.append(f"{label}: {_count(abs(after - before), 'element')} {more}")
        return texts

    def _names_changed(self) -> list[str]:
        now = self._callee.names()
        rebound = [key[1] for key, same in self._names.items() if key in now and not same(now[key])]
        new = [key[1] for key in now if key not in self._names]
        gone = [key[1] for key in self._names if key not in now]
        pairs = (("rebound", rebound), ("made", new), ("deleted", gone))
        return [f"names {what}: {_listed(names)}" for what, names in pairs if names]


class _Tensor:
    """One tensor as it was: how often it had been written to, and its gradient."""

    def __init__(self, label: str, tensor: Any) -> None:
        self.label = label
        self._tensor = weakref.ref(tensor)
        self._version, gradient = _look(tensor)
        self._same_gradient = _same_as(gradient)
        self._gradient_version = None if gradient is None else _look(gradient)[0]

    def changed(self) -> tuple[bool, bool]:
        """Say whether its values and its gradient have changed."""
        tensor = self._tensor()
        if tensor is None:
            return False, False
        version, gradient = _look(tensor)
        gradient_version = None if gradient is None else _look(gradient)[0]
        same = self._same_gradient(gradient) and gradient_version == self._gradient_version
        return version != self._version, not same


class _Steps:
    """Counts the steps of optimizers, those that did not end among them."""

    def __init__(self, optimizers: Iterable[Any]) -> None:
        self._begun: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._hooks: list[Any] = []
        for optimizer in optimizers:
            kind = type(optimizer)
            self._hooks += [
                kind.register_step_pre_hook(optimizer, _counting(self._begun)),
                kind.register_step_post_hook(optimizer, _counting(self._ended)),
            ]

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def seen(self) -> list[str]:
        texts = [f"{name}.step() done {_times(n)}" for name, n in self._ended.items()]
        broken = self._begun - self._ended
        return texts + [f"{name}.step() broken off {_times(n)}" for name, n in broken.items()]


def _counting(counts: Counter[str]) -> Callable[..., None]:
    def count(optimizer: Any, _args: Any, _keywords: Any) -> None:
        counts[type(optimizer).__name__] += 1

    return count


def _look(tensor: Any) -> tuple[int | None, Any]:
    """Return a tensor's version, None where it has none, and its gradient."""
    with undisturbed():
        try:
            version = tensor._version
        except RuntimeError:  # made in inference mode
            version = None
        # To ask any other tensor for its gradient gives a warning.
        return version, tensor.grad if tensor.is_leaf else None


def _readable(found: Iterable[Stream]) -> list[tuple[Stream, Any, bytes]]:
    states = []
    for stream in found:
        # A GPU whose work is being recorded in a graph does not tell.
        with contextlib.suppress(RuntimeError):
            states.append((stream, stream.read()))
    return [(stream, state, frozen(state)) for stream, state in states]


def _lengths(objects: Iterable[tuple[str, Any]]) -> dict[str, tuple[int, int]]:
    return {label: (id(value), len(value)) for label, value in objects if type(value) in _CONTAINERS}


def _same_as(value: Any) -> Callable[[Any], bool]:
    """Return a test for ``value`` that does not keep it alive."""
    kind = type(value)
    if kind in _ATOMS and not (kind in (str, bytes) and len(value) > _LONGEST_TEXT):
        return lambda now: now is value or (type(now) is kind and now == value)
    try:
        reference = weakref.ref(value)
    except TypeError:
        number = id(value)
        return lambda now: id(now) == number
    return lambda now: reference() is now


def _listed(names: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(names))
    rest = len(distinct) - _MOST_NAMES
    return ", ".join(distinct[:_MOST_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}{'' if n == 1 else 's'}"


def _times(n: int) -> str:
    return "once" if n == 1 else f"{n} times"
