"""What turns texts into embeddings."""

from __future__ import annotations

import difflib
import inspect
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from titan_nb.chat.encoders.identity import identity_of
from titan_nb.chat.encoders.minilm import MiniLM
from titan_nb.chat.encoders.sentences import SentenceEncoder
from titan_nb.chat.encoders.wordllama import WordLlama
from titan_nb.chat.normalise import unit_rows
from titan_nb.chat.rows import read_table
from titan_nb.errors import ChatError

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Encoder", "as_encoder", "encode_texts", "identity_of"]

_KINDS = (
    "a function that takes a list of n texts and returns an (n, d) array, an object with such a method "
    "encode, 'wordllama' or 'minilm'"
)
# What an encoder is given at once, whichever is reached first.
_BATCH_TEXTS = 4096
_BATCH_CHARACTERS = 2**22
_SHOWN_CHARACTERS = 40


@runtime_checkable
class Encoder(Protocol):
    """A function from n texts to n embeddings; any callable of this shape will do.

    ``SentenceTransformer(...).encode`` is one, and so is a function of your own. Where it has an attribute
    ``identity``, a text, chats remember it by that; see `identity_of`.
    """

    def __call__(self, texts: list[str], /) -> Any:
        """Return the embeddings of ``texts``, shape (n, d), as a tensor, an array or a list of lists."""
        ...


_NAMED: dict[str, type[WordLlama] | type[MiniLM]] = {"wordllama": WordLlama, "minilm": MiniLM}
# One of each per process: a model is read once.
_made: dict[str, WordLlama | MiniLM] = {}
_making = threading.Lock()


def as_encoder(value: Any) -> Encoder:
    """Return the encoder that ``value`` stands for.

    Args:
        value: A callable; an object with a method ``encode``, such as those of sentence-transformers;
            ``"wordllama"`` or ``"minilm"``; None for WordLlama. Nothing is ever downloaded.

    Raises:
        ChatError: If it is none of these, or the encoder is not installed.
    """
    name = "wordllama" if value is None else value
    if isinstance(name, str):
        if name not in _NAMED:
            nearest = difflib.get_close_matches(name, _NAMED, n=1, cutoff=0.0)[0]
            raise ChatError(f"there is no encoder {name!r}; did you mean {nearest!r}? Or give {_KINDS}")
        with _making:
            if name not in _made:
                _made[name] = _NAMED[name]()
            return _made[name]
    if isinstance(value, type) or not (callable(value) or callable(getattr(value, "encode", None))):
        kind = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
        raise ChatError(f"the encoder is {kind}: give {_KINDS}")
    # A model of sentence-transformers can also be called, with something else than texts.
    return SentenceEncoder(value) if callable(getattr(value, "encode", None)) else value


def encode_texts(encoder: Encoder, texts: Sequence[Any]) -> np.ndarray:
    """Return one unit row per text, float32, shape (n, d).

    What the encoder itself raises comes out as it is.

    Args:
        encoder: What turns texts into embeddings; it is given some thousands at a time.
        texts: The texts, at least one.

    Raises:
        ChatError: If something among them is no text, or the encoder's answer cannot be used.
    """
    import numpy as np

    tables: list[np.ndarray] = []
    first = 0
    for part in _parts(_read(texts)):
        tables.append(_rows(encoder, part, first))
        first += len(part)
    lengths = sorted({table.shape[1] for table in tables})
    if len(lengths) > 1:
        raise ChatError(
            f"the encoder returned rows of {lengths[0]} and of {lengths[1]} numbers: all must be equal"
        )
    return np.concatenate(tables) if len(tables) > 1 else tables[0]


def _read(texts: Sequence[Any]) -> list[str]:
    read = list(texts)
    if not read:
        raise ChatError("the texts are an empty list: pass at least one text")
    for number, text in enumerate(read):
        if not isinstance(text, str):
            raise ChatError(_no_text(number, text))
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ChatError(
                f"row {number} holds half of a surrogate pair at character {error.start}, which is no text: "
                "pass text.encode(errors='replace').decode()"
            ) from error
    return read


def _no_text(number: int, value: Any) -> str:
    kind = type(value).__name__
    missing = value is None or kind in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    if missing:
        return f"row {number} has no text ({value}): leave such rows out; pandas has dropna() for it"
    return f"row {number} among texts is of type {kind}: pass only texts, or only numbers"


def _parts(texts: list[str]) -> Iterator[list[str]]:
    first = characters = 0
    for number, text in enumerate(texts):
        characters += len(text)
        if number > first and (number - first == _BATCH_TEXTS or characters > _BATCH_CHARACTERS):
            yield texts[first:number]
            first, characters = number, len(text)
    yield texts[first:]


def _rows(encoder: Encoder, texts: list[str], first: int) -> np.ndarray:
    """Return one unit row per text, the first of which is called row ``first`` in errors."""
    answer = encoder(list(texts))
    if inspect.iscoroutine(answer):
        answer.close()
        raise ChatError("the encoder is asynchronous: give a function that returns the embeddings themselves")
    try:
        table = read_table(answer)
        if len(table) != len(texts):
            raise ChatError(f"it has {len(table)} rows for {len(texts)} texts, and must have one each")
        zeros = (table == 0).all(1).tolist()
        if True not in zeros:
            return unit_rows(table, subject=lambda number: f"row {first + number}")
    except ChatError as error:
        raise ChatError(f"the encoder's answer cannot be used: {error}") from error
    number = zeros.index(True)
    raise ChatError(
        f"the text {_shown(texts[number])} (row {first + number}) has no words that the encoder knows: its "
        "embedding is all zeros and has no direction; leave it out"
    )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…")
