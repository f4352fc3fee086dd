"""What encoders are called: the same in the next session, and another name for another encoder."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from titan_nb.chat.encoders.identity import identity_of
from titan_nb.chat.encoders.minilm import MiniLM
from titan_nb.chat.encoders.sentences import SentenceEncoder

CELL = """
import functools, re
MODEL = {model!r}
WORDS = ["a", "b"]
calls = 0
last = ''

class Model:
    def __init__(self, name): self.name = name
    def encode(self, texts): return [[len(text), {number}] for text in texts]
    def other(self, texts): return self.encode(texts)

model = Model({model!r})

def clean(text):
    return re.sub("x", {text!r}, text)

def embed(texts):
    # {comment}
    global calls, last
    calls += 1
    last += texts[0]
    return [[len(clean(text)), len(MODEL), text in {{"a", "b", "c", {text!r}}}] for text in texts]

def make(prefix, seed):
    latest = ''
    def inner(texts, scale=2, *, unit={number}):
        nonlocal latest
        latest += texts[0]
        return [[len(prefix + text) * seed * scale * unit] for text in texts]
    return inner

encoders = {{
    "function": embed,
    "lambda": lambda texts: [[len(clean(text))] for text in texts],
    "closure": make({text!r}, 3),
    "partial": functools.partial(embed, {number}),
    "object": model,
    "method": model.encode,
    "other method": model.other,
    "wrapped": functools.lru_cache(embed),
    "default": lambda texts, scale={number}: [[scale] for text in texts],
}}
"""
FIRST: dict[str, Any] = {"model": "org/one", "number": 1, "text": "p", "comment": "first"}


def session(**changed: Any) -> dict[str, Any]:
    """Run a cell in a namespace of its own, as a notebook does, and return its encoders."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(CELL.format(**{**FIRST, **changed}), namespace)
    encoders: dict[str, Any] = namespace["encoders"]
    return encoders


def identities(encoders: dict[str, Any]) -> dict[str, str]:
    return {name: identity_of(encoder) for name, encoder in encoders.items()}


def test_the_same_source_has_the_same_names() -> None:
    first = identities(session())
    assert identities(session(comment="second")) == first
    assert all(name.startswith("__main__.") and "#" in name for name in first.values())
    assert first["object"] == first["method"]
    assert first["function"] == first["wrapped"]
    assert len(set(first.values())) == len(first) - 2


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"text": "q"}, {"object", "method", "other method", "default"}),
        ({"model": "org/two"}, {"lambda", "closure", "default"}),
        ({"number": 2}, {"function", "lambda", "wrapped"}),
    ],
)
def test_another_encoder_has_another_name(changed: dict[str, Any], kept: set[str]) -> None:
    first, second = identities(session()), identities(session(**changed))
    assert {name for name in first if first[name] == second[name]} == kept


def test_another_operation_is_another_encoder() -> None:
    plus = identity_of(lambda texts: [[len(text) + 1.0] for text in texts])
    minus = identity_of(lambda texts: [[len(text) - 1.0] for text in texts])
    assert plus.partition("#")[0] == minus.partition("#")[0]
    assert plus != minus


def test_use_does_not_change_the_name() -> None:
    encoders = session()
    first = identities(encoders)
    for name in ("function", "lambda", "closure", "object"):
        getattr(encoders[name], "encode", encoders[name])(["a"])
    assert identities(encoders) == first


def test_names_are_the_same_in_another_process() -> None:
    script = (
        f"CELL = {CELL!r}\nFIRST = {FIRST!r}\n"
        "space = {'__name__': '__main__'}\nexec(CELL.format(**FIRST), space)\n"
        "from titan_nb.chat.encoders.identity import identity_of\n"
        "print({name: identity_of(encoder) for name, encoder in space['encoders'].items()})"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert answers == {str(identities(session()))}


def named(texts: list[str]) -> list[list[float]]:
    return [[1.0] for _ in texts]


named.identity = "mine:2"  # type: ignore[attr-defined]


class WithIdentity:
    identity = "served:3"

    def embed(self, texts: list[str]) -> list[list[float]]:
        return [[1.0] for _ in texts]


def test_an_own_identity_comes_first() -> None:
    assert identity_of(named) == "mine:2"
    assert identity_of(WithIdentity()) == "served:3"
    assert identity_of(WithIdentity().embed) == "served:3.embed"
    encoder = MiniLM()
    assert identity_of(encoder) == encoder.identity
    assert identity_of(SentenceEncoder(WithIdentity())) == "served:3"


class Odd:
    identity = 3
    name = "x"


def test_importable_ones_go_by_their_names() -> None:
    assert identity_of(np.linalg.norm) == "numpy.linalg.norm"
    assert identity_of(len) == "builtins.len"
    assert identity_of(functools.lru_cache(maxsize=3)(os.path.join)) == "posixpath.join"
    assert identity_of(np.vectorize(len)).startswith("numpy.vectorize")


def test_an_identity_that_is_no_text_does_not_count() -> None:
    assert identity_of(Odd()) == f"{__name__}.Odd(x)"


def test_a_chain_of_functions_and_a_ring_of_them_end() -> None:
    def odd(texts: list[str]) -> Any:
        return even(texts[1:])

    def even(texts: list[str]) -> Any:
        return odd(texts[1:])

    assert identity_of(odd) == identity_of(odd) != identity_of(even)


def test_a_name_that_is_not_bound_yet_is_no_reason_to_fail() -> None:
    def make() -> Callable[[list[str]], Any]:
        def inner(texts: list[str]) -> Any:
            return later(texts)

        if make is None:
            later = inner
        return inner

    assert "#" in identity_of(make())


def test_half_a_surrogate_pair_in_the_source_is_no_reason_to_fail() -> None:
    assert identity_of(lambda texts: [[text == "\ud800"] for text in texts]) != identity_of(
        lambda texts: [[text == "\ud801"] for text in texts]
    )
