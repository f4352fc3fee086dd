"""What an encoder is called, so that a chat is never filled by two."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Sequence
from types import FunctionType, MethodType
from typing import Any

from titan_nb.chat.encoders.sentences import SentenceEncoder, model_name
from titan_nb.chat.encoders.source import digest, parts_of_code, plain, used

__all__ = ["identity_of"]

_NAMED_BY = ("model_name", "model_id", "model", "name")
# So many functions deep: an encoder that calls one that calls one.
_DEPTH = 3
_NAMEABLE = (FunctionType, MethodType, functools.partial, SentenceEncoder)


def identity_of(encoder: Any) -> str:
    """Return the name by which a chat remembers what made its rows.

    It is the encoder's own attribute ``identity`` where it has one. Otherwise a model of
    sentence-transformers, and its method, goes by the model's name; an object by its class and, where it has
    one, its model's name; a function by its module and name.

    What cannot be imported by its name, such as a lambda or anything that is written in a notebook, has
    besides a fingerprint of its code, and of the texts, functions and models of sentence-transformers that it
    uses. The same source thus has the same name in the next session of the same Python, and other source
    another name. Other things that it uses, such as weights, are not looked at: give such an encoder an
    attribute ``identity``.
    """
    return _name(encoder, _DEPTH)


def _name(encoder: Any, depth: int) -> str:
    own = getattr(encoder, "identity", None)
    if isinstance(own, str) and own:
        return own
    if isinstance(encoder, SentenceEncoder):
        return _name(encoder.model, depth)
    named = model_name(encoder)
    if named is not None:
        return named
    if isinstance(encoder, MethodType):
        owner = _name(encoder.__self__, depth)
        of_model = model_name(encoder.__self__) is not None or encoder.__name__ == "encode"
        return owner if of_model else f"{owner}.{encoder.__name__}"
    if isinstance(encoder, functools.partial):
        given = (*encoder.args, *(value for _, value in sorted(encoder.keywords.items())))
        return f"{_name(encoder.func, depth)}#{digest(map(plain, given))}"
    # Functions have a qualified name, those written in C too; objects have none.
    is_named = isinstance(getattr(encoder, "__qualname__", None), str)
    if is_named and (isinstance(encoder, FunctionType) or _importable(encoder)):
        return _with_code(encoder, [encoder], depth)
    if hasattr(encoder, "__wrapped__"):  # by functools.lru_cache and the like
        return _name(encoder.__wrapped__, depth)
    return _name_of_object(encoder, depth)


def _name_of_object(encoder: Any, depth: int) -> str:
    kind = type(encoder)
    name = _with_code(
        kind, [value for value in vars(kind).values() if isinstance(value, FunctionType)], depth
    )
    model = next((found for key in _NAMED_BY if isinstance(found := getattr(encoder, key, None), str)), None)
    return name if model is None else f"{name}({model})"


def _with_code(value: Any, functions: Sequence[FunctionType], depth: int) -> str:
    name = f"{value.__module__}.{value.__qualname__}"
    if _importable(value):
        return name
    return f"{name}#{digest(part for function in functions for part in _parts(function, depth))}"


def _importable(value: Any) -> bool:
    """Return whether the next session finds the same under the same name; a notebook's names it does not."""
    found: Any = None if value.__module__ == "__main__" else sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value


def _parts(function: FunctionType, depth: int) -> Iterator[str]:
    yield from parts_of_code(function.__code__)
    yield from map(plain, (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()))
    for name, value in used(function):
        if isinstance(value, str):
            yield f"{name}={value!r}"
        elif depth and (isinstance(value, _NAMEABLE) or model_name(value)):
            yield f"{name}={_name(value, depth - 1)}"
