"""WordLlama: a vector per word part, and their mean; small, fast, and without torch.

The model is Lee Miller's, https://github.com/dleemiller/WordLlama (MIT). Its own package is not imported: it
would load a web client, and pads all texts of a batch to the longest of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from titan_nb.chat.encoders.packaged import fingerprint, model_files

if TYPE_CHECKING:
    import numpy as np

__all__ = ["WordLlama"]

_NAME = "l2_supercat_256"
_FILES = (f"weights/{_NAME}.safetensors", "tokenizers/l2_supercat_tokenizer_config.json")
_REMEDY = (
    'pip install "titan_nb[chat]" brings an encoder, WordLlama; or set memory.encoder to a function that '
    "takes a list of n texts and returns an (n, d) array, or pass embeddings"
)
# The tokeniser takes about a hundred bytes per character, and more than twice the time for twice the text.
_PIECE_CHARACTERS = 2**14


class WordLlama:
    """Turns texts into rows of 256 numbers; the model is read at first use.

    Raises:
        ChatError: If a package is missing.
    """

    def __init__(self) -> None:
        self._weights_file, self._tokenizer_file = model_files(
            "wordllama", _FILES, ("safetensors", "tokenizers"), _REMEDY
        )
        self._loading = threading.Lock()
        self._model: tuple[Any, np.ndarray] | None = None

    @cached_property
    def identity(self) -> str:
        """The model's name, and a fingerprint of its files."""
        return f"wordllama:{_NAME}:{fingerprint([self._weights_file, self._tokenizer_file])}"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return one row per text, float32, shape (n, 256); a text without word parts gets zeros."""
        import numpy as np

        tokenizer, table = self._load()
        rows = np.zeros((len(texts), table.shape[1]), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            count = 0
            for piece in _pieces(text):
                # Not encode_batch: it would start threads of its own for good.
                tokens = tokenizer.encode(piece, add_special_tokens=False).ids
                row += table[tokens].sum(axis=0, dtype=np.float32)
                count += len(tokens)
            row /= max(count, 1)
        return rows

    def _load(self) -> tuple[Any, np.ndarray]:
        with self._loading:
            if self._model is None:
                from safetensors import safe_open
                from tokenizers import Tokenizer

                with safe_open(self._weights_file, framework="np") as file:
                    table = file.get_tensor("embedding.weight")
                tokenizer = Tokenizer.from_file(str(self._tokenizer_file))
                tokenizer.no_padding()
                tokenizer.no_truncation()
                self._model = tokenizer, table
            return self._model


def _pieces(text: str) -> Iterator[str]:
    """Yield ``text`` in parts, cut at spaces where there are some: no word part reaches over one."""
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        space = text.rfind(" ", start + 1, start + _PIECE_CHARACTERS)
        end = start + _PIECE_CHARACTERS if space < 0 else space
        yield text[start:end]
        # The tokeniser puts a space before each part by itself.
        start = end + (space >= 0)
    yield text[start:]
